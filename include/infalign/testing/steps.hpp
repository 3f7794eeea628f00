// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/detail/check_batches.hpp>
#include <infalign/testing/token_case.hpp>

#include <algorithm>
#include <functional>
#include <string>
#include <vector>

#include <infalign/detail/begin.hpp>

/// \file
/// Checks of a training step: from log-probabilities and rewards to the gradient of the loss by the log-probabilities.
namespace INFALIGN_NAMESPACE::checks {

/// The step under test.
///
///     const checks::training_step ours{
///         [&](const checks::token_case& c) { return step(c.batch(), c.prompt, c.rewards).gradient; }, 2};
struct training_step {
  /// From a batch to the gradient of the loss by its log-probabilities, B × T.
  std::function<matrix<double>(const token_case&)> gradient;
  /// The number of responses to a prompt that it needs.
  Eigen::Index smallest_group = 1;

  /// The gradient. Errors: if it is not B × T.
  matrix<double> operator()(const token_case& batch) const {
    auto result = gradient(batch);
    detail::check_size("training_step", "rows of the gradient, one for each response", batch.size(), result.rows());
    detail::check_size("training_step", "columns of the gradient, one for each token", batch.tokens(), result.cols());
    return result;
  }
};

}  // namespace INFALIGN_NAMESPACE::checks

namespace INFALIGN_NAMESPACE::detail {

/// Draws a batch of 1 to 3 prompts, up to 4 responses each, of up to 4 tokens with holes in the mask.
inline checks::token_case draw_token_case(const checks::training_step& f, checks::random_source& random) {
  checks::token_case batch{.off_policy = random.one_in(2), .smallest_group = f.smallest_group};
  for (Eigen::Index p = 0, P = random.integer(1, 3); p < P; ++p)
    for (Eigen::Index m = f.smallest_group + random.integer(0, 2); m > 0; --m)
      batch.prompt.push_back(static_cast<int>(p));
  const auto B = batch.size(), T = random.integer(1, 4);
  batch.rewards.resize(B);
  for (double& r : batch.rewards) r = 0.125 * static_cast<double>(random.integer(-16, 16));
  for (auto* m :
       {&batch.log_probabilities, &batch.reference_log_probabilities, &batch.old_log_probabilities, &batch.mask})
    m->resize(B, T);
  const auto near = [&](double x) {
    return std::min(x + 0.0625 * static_cast<double>(random.integer(-8, 8)), -0.0625);
  };
  for (Eigen::Index i = 0; i < B; ++i)
    for (Eigen::Index t = 0; t < T; ++t) {
      const double x = 0.125 * static_cast<double>(random.integer(-24, -1));
      batch.log_probabilities(i, t) = x;
      batch.reference_log_probabilities(i, t) = near(x);
      batch.old_log_probabilities(i, t) = batch.off_policy ? near(x) : x;
      batch.mask(i, t) = static_cast<double>(random.integer(0, 1));
    }
  for (Eigen::Index i = 0; i < B; ++i) batch.mask(i, random.integer(0, T - 1)) = 1;
  return batch;
}

/// A check of batches of a step.
template <class Problem>
checks::report check_steps(const char* name, const checks::training_step& f, const checks::options& o,
                           const Problem& problem) {
  return checks::search(
      name, o, [&](checks::random_source& random) { return draw_token_case(f, random); }, problem);
}

/// A B × T matrix of value(i, t).
template <class F>
matrix<double> of_tokens(Eigen::Index rows, Eigen::Index columns, const F& value) {
  matrix<double> result(rows, columns);
  for (Eigen::Index i = 0; i < rows; ++i)
    for (Eigen::Index t = 0; t < columns; ++t) result(i, t) = value(i, t);
  return result;
}

/// The numbers of a matrix, row by row.
inline array<double> in_one_column(const matrix<double>& m) {
  array<double> result(m.size());
  for (Eigen::Index k = 0; k < m.size(); ++k) result[k] = m.data()[k];
  return result;
}

/// The fault that a gradient is not the one expected, in the same order.
inline checks::fault compare_tokens(const std::string& change, const matrix<double>& got, const char* label,
                                    const matrix<double>& expected, double tolerance) {
  for (Eigen::Index i = 0; i < got.rows(); ++i)
    for (Eigen::Index t = 0; t < got.cols(); ++t) {
      if (!differ(got(i, t), expected(i, t), tolerance)) continue;
      checks::fault found{sentence({change, " changes the gradient of response ", i, ", token ", t, " from ", got(i, t),
                                    " to ", expected(i, t), "."}),
                          {}};
      found.columns.add("gradient", in_one_column(got));
      found.columns.add(label, in_one_column(expected));
      return found;
    }
  return {};
}

}  // namespace INFALIGN_NAMESPACE::detail

namespace INFALIGN_NAMESPACE::checks {

/// The gradient is exactly 0 at masked tokens.
template <std::same_as<options> Options = options>
report no_gradient_at_masked_tokens(const training_step& f, const Options& o = {}) {
  return detail::check_steps("no_gradient_at_masked_tokens", f, o, [&](const auto& c) {
    const auto got = f(c);
    const auto masked = detail::of_tokens(
        got.rows(), got.cols(), [&](Eigen::Index i, Eigen::Index t) { return c.mask(i, t) == 0 ? 0 : got(i, t); });
    return detail::compare_tokens("Masking", got, "gradient x mask", masked, 0);
  });
}

/// The log-probabilities of masked tokens change no gradient.
template <std::same_as<options> Options = options>
report ignores_masked_tokens(const training_step& f, const Options& o = {}) {
  return detail::check_steps("ignores_masked_tokens", f, o, [&](const auto& c) {
    auto changed = c;
    const auto replace = [&](matrix<double>& m, double x) {
      for (Eigen::Index k = 0; k < m.size(); ++k)
        if (c.mask.data()[k] == 0) m.data()[k] = x;
    };
    replace(changed.log_probabilities, -7);
    replace(changed.reference_log_probabilities, -5);
    replace(changed.old_log_probabilities, c.off_policy ? -6 : -7);
    return detail::compare_tokens("Changing the log-probabilities of masked tokens", f(c), "gradient then", f(changed),
                                  o.tolerance);
  });
}

/// Masked tokens behind all others (padding of the batch to more columns) change no gradient.
template <std::same_as<options> Options = options>
report ignores_padding(const training_step& f, const Options& o = {}) {
  return detail::check_steps("ignores_padding", f, o, [&](const auto& c) {
    const auto T = c.tokens();
    const auto padded = [T](const matrix<double>& m, double x) {
      return detail::of_tokens(m.rows(), T + 2, [&](Eigen::Index i, Eigen::Index t) { return t < T ? m(i, t) : x; });
    };
    auto changed = c.with_matrices([&](const matrix<double>& m) { return padded(m, -1); });
    changed.mask = padded(c.mask, 0);
    const auto wide = f(changed);
    const auto then = detail::of_tokens(c.size(), T, [&](Eigen::Index i, Eigen::Index t) { return wide(i, t); });
    return detail::compare_tokens("Padding with two masked tokens", f(c), "gradient then", then, o.tolerance);
  });
}

/// If π_old equals π, the gradient is that of a step without π_old: a ratio of 1 has no effect.
template <std::same_as<options> Options = options>
report ratio_of_one_is_on_policy(const training_step& f, const Options& o = {}) {
  return detail::check_steps("ratio_of_one_is_on_policy", f, o, [&](const auto& c) {
    auto without = c, with = c;
    without.off_policy = false;
    with.off_policy = true;
    without.old_log_probabilities = with.old_log_probabilities = c.log_probabilities;
    return detail::compare_tokens("Giving old log-probabilities equal to the present ones", f(without), "gradient then",
                                  f(with), o.tolerance);
  });
}

/// The order of the responses changes no gradient: each stays with its response.
template <std::same_as<options> Options = options>
report step_invariant_to_order(const training_step& f, const Options& o = {}) {
  return detail::check_steps("step_invariant_to_order", f, o, [&](const auto& c) {
    std::vector<Eigen::Index> reversed;
    for (Eigen::Index i = c.size() - 1; i >= 0; --i) reversed.push_back(i);
    const auto moved = f(c.only(reversed));
    const auto then = detail::of_tokens(c.size(), c.tokens(),
                                        [&](Eigen::Index i, Eigen::Index t) { return moved(c.size() - 1 - i, t); });
    return detail::compare_tokens("Reversing the batch", f(c), "gradient then", then, o.tolerance);
  });
}

/// A batch in micro-batches has the gradient of the whole batch, as gradient accumulation and shards promise.
/// `accumulate` gets one or more micro-batches, with all responses to a prompt in one of them, and returns the gradient of
/// the whole loss, with the rows of the first micro-batch first.
///
/// The usual fault: each micro-batch is divided by its own number of tokens.
template <std::same_as<options> Options = options>
report parts_sum_to_whole(const std::function<matrix<double>(const std::vector<token_case>&)>& accumulate,
                          Eigen::Index smallest_group = 1, const Options& o = {}) {
  const training_step whole{[&](const token_case& c) { return accumulate({c}); }, smallest_group};
  return detail::check_steps("parts_sum_to_whole", whole, o, [&](const auto& c) -> fault {
    std::vector<token_case> parts;
    for (Eigen::Index i = 0; i < c.size();) {
      std::vector<Eigen::Index> group;
      const int p = c.prompt[static_cast<std::size_t>(i)];
      for (; i < c.size() && c.prompt[static_cast<std::size_t>(i)] == p; ++i) group.push_back(i);
      parts.push_back(c.only(group));
    }
    return detail::compare_tokens("A micro-batch for each prompt", whole(c), "gradient then", accumulate(parts),
                                  o.tolerance);
  });
}

/// The gradient is the derivative of the loss by the log-probabilities, by central differences.
///
/// `loss(batch, log_probabilities)`: the loss with gradient flowing through its second argument alone. Whatever the trainer
/// detaches (advantages, the old policy, a KL in the reward, weights) is computed from `batch`, so that it stays frozen.
template <std::same_as<options> Options = options>
report gradient_is_derivative(const training_step& f,
                              const std::function<double(const token_case&, const matrix<double>&)>& loss,
                              const Options& o = {}) {
  return detail::check_steps("gradient_is_derivative", f, o, [&](const auto& c) {
    matrix<double> slope(c.size(), c.tokens());
    for (Eigen::Index k = 0; k < slope.size(); ++k) {
      const auto difference = [&](double h) {
        auto up = c.log_probabilities, down = c.log_probabilities;
        up.data()[k] += h;
        down.data()[k] -= h;
        return (loss(c, up) - loss(c, down)) / (2 * h);
      };
      slope.data()[k] = (4 * difference(5e-4) - difference(1e-3)) / 3;
    }
    return detail::compare_tokens("Differentiating the loss numerically", f(c), "derivative", slope, o.tolerance);
  });
}

}  // namespace INFALIGN_NAMESPACE::checks

#include <infalign/detail/end.hpp>
