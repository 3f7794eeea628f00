// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/calibration/reference.hpp>
#include <infalign/detail/counting.hpp>
#include <infalign/measure/mean_estimate.hpp>
#include <infalign/procedure.hpp>

#include <algorithm>
#include <iterator>
#include <map>
#include <utility>
#include <vector>

#include <infalign/detail/begin.hpp>

/// \file
/// Inference-time win rates, estimated from samples without bias.
namespace INFALIGN_NAMESPACE {

namespace detail {

/// The counts for one of the distinct rewards y of the policy's responses to a prompt: the policy's responses with a
/// reward of at most y, and the reference's with a reward below y and of at most y.
struct win_level {
  Eigen::Index policy_at_most, reference_below, reference_at_most;
};

/// The counts of a prompt with M scored responses of the policy and K of the reference, in increasing order of y.
struct win_levels {
  Eigen::Index M, K;
  std::vector<win_level> levels;
};

/// The scored rewards of row p, sorted, into `result`.
template <reference_table T>
void sort_scored(const char* function, const char* whose, const T& table, Eigen::Index p, unscored on_unscored,
                 std::vector<typename T::Scalar>& result) {
  const auto row = table.row(p);
  count_scored({function, on_unscored}, whose, row, p);
  result.clear();
  std::copy_if(row.data(), row.data() + row.size(), std::back_inserter(result), [](auto r) { return !is_nan(r); });
  std::sort(result.begin(), result.end());
}

/// The counts of each prompt.
template <reference_rewards A, reference_rewards B>
std::vector<win_levels> win_levels_of(const char* function, const A& policy, const B& reference, unscored on_unscored) {
  using S = typename A::Scalar;
  static_assert(std::same_as<S, typename B::Scalar>,
                "infalign::win_rate: policy and reference rewards must have the same scalar type (a float "
                "does not tie with the double it came from): cast one of them");
  decltype(auto) of_policy = rows_of(policy);
  decltype(auto) of_reference = rows_of(reference);
  check_size(function, "rows of reference rewards, one for each of the policy's", of_policy.rows(),
             of_reference.rows());
  std::vector<win_levels> result(static_cast<std::size_t>(of_policy.rows()));
  std::vector<S> y, z;
  for (Eigen::Index p = 0; p < of_policy.rows(); ++p) {
    sort_scored(function, "policy", of_policy, p, on_unscored, y);
    sort_scored(function, "reference", of_reference, p, on_unscored, z);
    auto& prompt = result[static_cast<std::size_t>(p)];
    prompt = {size_of(y), size_of(z), {}};
    auto below = z.begin();
    for (auto i = y.begin(); i != y.end();) {
      const S reward = *i;
      while (i != y.end() && *i == reward) ++i;
      while (below != z.end() && *below < reward) ++below;
      auto at_most = below;
      while (at_most != z.end() && *at_most == reward) ++at_most;
      prompt.levels.push_back({static_cast<Eigen::Index>(i - y.begin()), static_cast<Eigen::Index>(below - z.begin()),
                               static_cast<Eigen::Index>(at_most - z.begin())});
    }
  }
  return result;
}

/// `sample_cdf` of a procedure at every count of responses below, computed once for each size of sample.
template <sample_procedure T>
class sample_cdfs {
 public:
  sample_cdfs(const char* function, const T& procedure) : function_(function), procedure_(procedure) {
    check_part(procedure);
  }

  /// The table for samples of `count` responses; p is the first prompt that has one.
  const std::vector<double>& of(Eigen::Index count, Eigen::Index p) {
    auto& table = tables_[count];
    if (!table.empty()) return table;
    const Eigen::Index needed = procedure_.sample_size();
    if (count < needed)
      fail(function_, concat("at least ", needed, " scored responses to each prompt for this procedure"),
           concat(count, " at row ", p));
    for (Eigen::Index below = 0; below <= count; ++below) table.push_back(procedure_.sample_cdf(below, count));
    return table;
  }

 private:
  const char* function_;
  const T& procedure_;
  std::map<Eigen::Index, std::vector<double>> tables_;
};

/// The unbiased estimate of each prompt's win rate.
template <sample_procedure T1, sample_procedure T2>
array<double> win_rates_of(const char* function, const std::vector<win_levels>& prompts, const T1& policy_procedure,
                           const T2& reference_procedure) {
  sample_cdfs policy_cdfs(function, policy_procedure);
  sample_cdfs reference_cdfs(function, reference_procedure);
  array<double> result(size_of(prompts));
  for (Eigen::Index p = 0; p < result.size(); ++p) {
    const auto& [M, K, levels] = prompts[static_cast<std::size_t>(p)];
    if (M == 0 || K == 0) {  // nothing scored, and NaN is propagated
      result[p] = nan<double>;
      continue;
    }
    const double *const policy_cdf = policy_cdfs.of(M, p).data(), *const reference_cdf = reference_cdfs.of(K, p).data();
    double win_rate = 0, below = 0;
    for (const auto& level : levels) {
      const double at_most = policy_cdf[level.policy_at_most];
      win_rate +=
          (at_most - below) * 0.5 * (reference_cdf[level.reference_below] + reference_cdf[level.reference_at_most]);
      below = at_most;
    }
    result[p] = win_rate;
  }
  return result;
}

/// The mean of the numbers that are not NaN.
template <vector_expression Rates>
mean_estimate mean_of_scored(const Rates& rates) {
  std::vector<double> scored;
  std::copy_if(rates.begin(), rates.end(), std::back_inserter(scored), [](double w) { return !is_nan(w); });
  return mean_over_prompts(Eigen::Map<const array<double>>(scored.data(), size_of(scored)));
}

}  // namespace detail

/// The inference-time win rate on each prompt, estimated without bias from rewards of the policy's and the reference's
/// responses.
///
///     W = P(r(Y) > r(Z)) + ½·P(r(Y) = r(Z)),   Y ~ T₁(policy), Z ~ T₂(reference)
///
/// The estimate is W over all pairs of sets that the procedures could draw from the samples. (Best-of-n outputs the i-th
/// smallest of M with probability C(i − 1, n − 1)/C(M, n).) Do not use a reference here that calibrated the rewards of
/// the training: the policy has learnt its sampling errors, so that the win rate would be too high.
///
/// Shapes: policy: P × M; reference: P × K; or any `reference_table`, with M and K that differ by prompt. Result: P.
/// Range: [0, 1].
/// Cost: (M + K)·log(M + K) per prompt.
/// Errors: throws if the numbers of rows differ, if a procedure is invalid, and if a prompt has fewer scored responses
/// than its procedure draws.
/// NaN: an error; with `unscored::propagate` such responses are left out, and the win rate of a prompt without scored
/// responses of both is NaN.
template <reference_rewards A, reference_rewards B, sample_procedure T1, sample_procedure T2>
array<double> win_rates(const A& policy, const B& reference, const T1& policy_procedure, const T2& reference_procedure,
                        unscored on_unscored = unscored::error) {
  constexpr auto name = "win_rates";
  return detail::win_rates_of(name, detail::win_levels_of(name, policy, reference, on_unscored), policy_procedure,
                              reference_procedure);
}

/// As above, with one procedure for both.
template <reference_rewards A, reference_rewards B, sample_procedure T>
array<double> win_rates(const A& policy, const B& reference, const T& both, unscored on_unscored = unscored::error) {
  return win_rates(policy, reference, both, both, on_unscored);
}

/// The mean of `win_rates` over prompts, with its standard error and 95 % interval.
///
///     const mean_estimate w = win_rate(policy_rewards, reference_rewards, best_of{4});
///     w.mean, w.standard_error, w.low, w.high
///
/// With `unscored::propagate` it leaves out the prompts without a win rate; `.prompts` is the number of the others.
///
/// To compare two policies on the same prompts, use the mean of their difference: mean_over_prompts(win_rates(a, …) −
/// win_rates(b, …)).
template <reference_rewards A, reference_rewards B, sample_procedure T1, sample_procedure T2>
mean_estimate win_rate(const A& policy, const B& reference, const T1& policy_procedure, const T2& reference_procedure,
                       unscored on_unscored = unscored::error) {
  return detail::mean_of_scored(win_rates(policy, reference, policy_procedure, reference_procedure, on_unscored));
}

/// As above, with one procedure for both.
template <reference_rewards A, reference_rewards B, sample_procedure T>
mean_estimate win_rate(const A& policy, const B& reference, const T& both, unscored on_unscored = unscored::error) {
  return win_rate(policy, reference, both, both, on_unscored);
}

/// The win rate against n: element n − 1 is `win_rate` with T{n} for both, for n from 1 to the smallest number of scored
/// responses of any prompt. Each prompt's rewards are sorted once.
///
///     const auto curve = win_rate_curve<best_of>(policy_rewards, reference_rewards);      // or worst_of
template <sample_procedure T, reference_rewards A, reference_rewards B>
requires requires(int n) {
  T{n};
}
std::vector<mean_estimate> win_rate_curve(const A& policy, const B& reference, unscored on_unscored = unscored::error) {
  constexpr auto name = "win_rate_curve";
  const auto prompts = detail::win_levels_of(name, policy, reference, on_unscored);
  if (prompts.empty()) detail::fail(name, "at least one prompt", "none");
  Eigen::Index most = 0;
  for (const auto& prompt : prompts)
    if (const auto fewer = std::min(prompt.M, prompt.K); fewer > 0) most = most > 0 ? std::min(most, fewer) : fewer;
  std::vector<mean_estimate> result;
  for (int n = 1; n <= most; ++n)
    result.push_back(detail::mean_of_scored(detail::win_rates_of(name, prompts, T{n}, T{n})));
  return result;
}

}  // namespace INFALIGN_NAMESPACE

#include <infalign/detail/end.hpp>
