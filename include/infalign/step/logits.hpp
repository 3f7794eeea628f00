// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/detail/batch.hpp>
#include <infalign/detail/blocks.hpp>
#include <infalign/detail/dispatch.hpp>
#include <infalign/detail/parallel.hpp>
#include <infalign/step/token_batch.hpp>
#include <infalign/transform/functions.hpp>

#include <algorithm>
#include <cmath>

#include <infalign/detail/begin.hpp>

/// \file
/// From logits to the log-probabilities of tokens, and from the step's gradient back to logits: for trainers without
/// automatic differentiation.
///
///     log p_t = x[y_t] − log Σ_v e^{x[v]}          x: the logits at position t, y_t: the token there
///     d loss/d x[v] = g_t·(1{v = y_t} − p[v])       g_t: the step's gradient, d loss/d log p_t
namespace INFALIGN_NAMESPACE {

namespace detail {

/// Throws at the first logit that is NaN or +∞, or if all are −∞.
template <real_scalar S>
[[noreturn]] void refuse_logits(const char* function, const S* x, Eigen::Index V, Eigen::Index row) {
  Eigen::Index v = 0;
  while (v + 1 < V && !is_nan(x[v]) && x[v] < infinite<S>) ++v;
  fail(function, "logits that are numbers below infinity, not all of them -inf",
       V > 0 ? concat(x[v], position(row, v)) : "none");
}

/// The largest of V logits; it may be infinite. A NaN is no larger than anything.
template <real_scalar S>
S largest_logit(const S* x, Eigen::Index V) {
  return at_full_width([=](auto) {
    S most = -infinite<S>, lanes[64];
    fill<64>(-infinite<S>, lanes);
    Eigen::Index v = 0;
    for (; v + 64 <= V; v += 64)
      for (int j = 0; j < 64; ++j) lanes[j] = choose(x[v + j] > lanes[j], x[v + j], lanes[j]);
    for (int j = 0; j < 64; ++j) most = choose(lanes[j] > most, lanes[j], most);
    for (; v < V; ++v) most = choose(x[v] > most, x[v], most);
    return most;
  });
}

/// Σ_v e^{x[v] − most}, NaN if a logit is. Writes the terms to `terms` if it is not null; it may be x.
template <real_scalar S>
double sum_of_powers(const S* x, Eigen::Index V, S most, S* terms) {
  return at_full_width([=](auto) {
    double sum = 0;
    S power[64];
    Eigen::Index v = 0;
    for (; v + 64 <= V; v += 64) {
      for (int j = 0; j < 64; ++j) power[j] = vectorized::exp(x[v + j] - most);
      sum += static_cast<double>(sum_of<64>(power));
      if (terms) std::copy_n(power, 64, terms + v);
    }
    for (; v < V; ++v) {
      const S one = vectorized::exp(x[v] - most);
      sum += static_cast<double>(one);
      if (terms) terms[v] = one;
    }
    return sum;
  });
}

/// Throws unless there are logits for each token, and each token is below V.
template <real_scalar S, prompt_index Tokens>
void check_tokens(const char* function, const matrix_view<S>& logits, const Tokens& tokens, Eigen::Index numbers,
                  const char* what) {
  const auto n = size_of(tokens);
  if (logits.rows() != n) fail(function, concat(n, " rows of logits, one for each token"), concat(logits.rows()));
  if (numbers != n) fail(function, concat(n, " ", what, ", one for each token"), concat(numbers));
  for (Eigen::Index i = 0; i < n; ++i) {
    const auto token = +tokens[static_cast<decltype(tokens.size())>(i)];
    if (std::cmp_greater_equal(token, logits.cols()))
      fail(function, concat("tokens below ", logits.cols(), ", or below 0 to skip them"), concat(token, position(i)));
  }
}

}  // namespace detail

/// Writes the log-probability of each token, from logits.
///
///     token_log_probabilities_into(now, logits, tokens);   // logits: {data, B·T, V, V}
///
/// A token below 0, such as −100, is skipped: it has log-probability 0, and its logits are not read.
///
/// Shapes: logits: B·T rows of V; tokens: B·T, row by row, a vector or array of integers; result: B × T, contiguous.
/// Range: a logit may be −∞: the token cannot be drawn. Its log-probability is −∞, which the step refuses unless it is
/// masked.
/// Accuracy: 4·ε·(1 + |log p|), plus 4·ε of the largest difference of logits that count.
/// Cost: two passes over the logits; no allocation.
/// Errors: if shapes differ, if a token is V or above, and if a logit that is read is NaN or +∞.
template <class Result, real_scalar S, prompt_index Tokens>
requires detail::result_buffer<Result>
void token_log_probabilities_into(Result&& result, const matrix_view<S>& logits, const Tokens& tokens) {
  constexpr auto name = "token_log_probabilities";
  static_assert(std::same_as<typename std::remove_reference_t<Result>::Scalar, S>,
                "infalign::token_log_probabilities: the result has another scalar type than the logits");
  detail::check_tokens(name, logits, tokens, result.size(), "numbers in the result");
  const auto rows = detail::rows_in_memory<S>(name, result);
  if (!rows.packed()) detail::fail(name, "a contiguous result", "rows apart from each other");
  const double work = static_cast<double>(logits.rows()) * static_cast<double>(logits.cols());
  detail::for_each_row(logits.rows(), work, [&](Eigen::Index i) {
    const auto token = +tokens[static_cast<decltype(tokens.size())>(i)];
    if (std::cmp_less(token, 0)) {
      rows.data[i] = 0;
      return;
    }
    const S* const x = logits.row(i);
    const S most = detail::largest_logit(x, logits.cols());
    const double sum = detail::is_finite(most) ? detail::sum_of_powers<S>(x, logits.cols(), most, nullptr) : 0;
    if (!detail::is_finite(most) || !detail::is_finite(sum)) detail::refuse_logits(name, x, logits.cols(), i);
    rows.data[i] = static_cast<S>(static_cast<double>(x[token]) - static_cast<double>(most) - std::log(sum));
  });
}

/// Writes the gradient by the logits, from the step's gradient by the log-probabilities.
///
///     logits_gradient_into(d_logits, logits, tokens, out.gradient);
///
/// Shapes: result: B·T × V, with contiguous rows; it may be the logits' own buffer. gradient: B × T, contiguous. A skipped
/// token has gradient 0, and so has one whose gradient is 0.
/// Accuracy: 8·ε·|g| and 8·ε of each number.
/// Cost: three passes over the logits; no allocation.
/// Errors: as `token_log_probabilities_into`; if it throws, the result's contents are unspecified.
template <class Result, real_scalar S, prompt_index Tokens, array_expression G>
requires detail::result_buffer<Result>
void logits_gradient_into(Result&& result, const matrix_view<S>& logits, const Tokens& tokens, const G& gradient) {
  constexpr auto name = "logits_gradient";
  static_assert(
      std::same_as<typename std::remove_reference_t<Result>::Scalar, S> && std::same_as<typename G::Scalar, S>,
      "infalign::logits_gradient: result, gradient and logits must have one scalar type");
  detail::check_tokens(name, logits, tokens, gradient.size(), "numbers in the gradient");
  const Eigen::Ref<const matrix<S>> g(detail::as_array(gradient));
  const auto V = logits.cols();
  const auto rows = detail::rows_of_result(name, result, detail::row_prompts{logits.rows(), V});
  detail::check_same_place(name, detail::memory_of(rows), {logits.row(0), logits.rows(), V, logits.stride(), 1},
                           "the logits");
  const double work = static_cast<double>(logits.rows()) * static_cast<double>(V);
  detail::for_each_row(logits.rows(), work, [&](Eigen::Index i) {
    const auto token = +tokens[static_cast<decltype(tokens.size())>(i)];
    S* const out = rows.row(i);
    const S slope = g.data()[i];
    if (std::cmp_less(token, 0) || slope == 0) {
      std::fill_n(out, V, S{0});
      return;
    }
    const S* const x = logits.row(i);
    const S most = detail::largest_logit(x, V);
    const double sum = detail::is_finite(most) ? detail::sum_of_powers<S>(x, V, most, out) : 0;
    if (!detail::is_finite(most) || !detail::is_finite(sum)) detail::refuse_logits(name, x, V, i);
    const S scale = static_cast<S>(-static_cast<double>(slope) / sum);
    detail::at_full_width([=](auto) {
      Eigen::Index v = 0;
      for (; v + 64 <= V; v += 64)
        for (int j = 0; j < 64; ++j) out[v + j] *= scale;
      for (; v < V; ++v) out[v] *= scale;
    });
    out[token] += slope;
  });
}

}  // namespace INFALIGN_NAMESPACE

#include <infalign/detail/end.hpp>
