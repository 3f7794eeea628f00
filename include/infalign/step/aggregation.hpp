// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/core.hpp>
#include <infalign/detail/eigen.hpp>
#include <infalign/detail/token_reader.hpp>

#include <infalign/detail/begin.hpp>

/// \file
/// How the terms of a loss are averaged over the tokens and responses of a batch.
namespace INFALIGN_NAMESPACE {

/// The denominators of a batch, summed over all its shards.
struct batch_size {
  /// The number of scored responses.
  double sequences = 0;
  /// The number of their unmasked tokens.
  double tokens = 0;
};

/// The numbers of responses and of their unmasked tokens in a batch.
template <real_scalar S, class Mask>
batch_size batch_size_of(const token_batch<S, Mask>& batch) {
  detail::check_batch("batch_size_of", batch, "responses", batch.log_probabilities.rows());
  const detail::token_reader<S, Mask> reader("batch_size_of", batch);
  batch_size size;
  for (Eigen::Index i = 0; i < batch.log_probabilities.rows(); ++i)
    size.sequences += 1, size.tokens += reader.tokens(i);
  return size;
}

/// The numbers of scored responses and of their unmasked tokens: those whose reward or advantage is not NaN.
///
/// Shapes: scores B, or B × T for advantages of tokens, where a row of NaN is an unscored response.
/// Errors: if the number of responses differs.
template <real_scalar S, class Mask, array_expression A>
batch_size batch_size_of(const token_batch<S, Mask>& batch, const A& scores) {
  const detail::token_reader<S, Mask> reader("batch_size_of", batch);
  const matrix<S> rows = [&]() -> matrix<S> {
    if constexpr (vector_expression<A>)
      return detail::as_column(scores);
    else
      return detail::as_array(scores);
  }();
  detail::check_size("batch_size_of", "scores, one for each response", batch.log_probabilities.rows(), rows.rows());
  detail::check_batch("batch_size_of", batch, "responses", rows.rows());
  batch_size size;
  for (Eigen::Index i = 0; i < rows.rows(); ++i) {
    if (rows.cols() > 0 && detail::all_nan(rows.data() + i * rows.cols(), rows.cols())) continue;
    size.sequences += 1, size.tokens += reader.tokens(i);
  }
  return size;
}

/// An aggregation: `a.weight(tokens, total)` is the weight of each token of a response with `tokens` unmasked tokens,
/// in a batch with these denominators.
template <class A>
concept aggregation = requires(const A& a, double tokens, const batch_size& total) {
  { a.weight(tokens, total) } -> std::convertible_to<double>;
};

/// The mean over responses of the sum over tokens, divided by a fixed length. It is the default, and the only
/// aggregation with an unbiased gradient, because a response's log-probability is the sum of its tokens'.
///
///     1/(B·length) · Σ_responses Σ_tokens
///
/// Source: with the longest length allowed, Dr. GRPO (arXiv:2503.20783).
struct sequence_mean_of_token_sums {
  /// A constant to divide by. With L/B, the loss is the sum over the batch divided by L.
  double length = 1;
  /// Throws unless length is finite and above 0.
  void check() const { detail::check_positive("sequence_mean_of_token_sums", "a length", length); }
  /// The weight of each token of a response.
  double weight(double, const batch_size& total) const { return 1 / (total.sequences * length); }
};

/// The mean over responses of the mean over tokens: a token of a long response has a smaller weight.
///
///     1/B · Σ_responses (1/T_i · Σ_tokens)        T_i: the unmasked tokens of the response
///
/// Source: GRPO (arXiv:2402.03300).
struct sequence_mean_of_token_means {
  /// The weight of each token of a response.
  double weight(double tokens, const batch_size& total) const { return 1 / (total.sequences * tokens); }
};

/// The mean over all unmasked tokens of the batch: a long response has a larger weight.
///
/// Source: DAPO (arXiv:2503.14476).
struct token_mean {
  /// The weight of each token of a response.
  double weight(double, const batch_size& total) const { return 1 / total.tokens; }
};

static_assert(aggregation<sequence_mean_of_token_sums> && aggregation<sequence_mean_of_token_means> &&
              aggregation<token_mean>);

}  // namespace INFALIGN_NAMESPACE

#include <infalign/detail/end.hpp>
