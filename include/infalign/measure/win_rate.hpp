// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/calibration/reference.hpp>
#include <infalign/detail/counting.hpp>
#include <infalign/measure/mean_estimate.hpp>
#include <infalign/procedure.hpp>

#include <algorithm>
#include <cstddef>
#include <iterator>
#include <map>
#include <span>
#include <utility>
#include <vector>

#include <infalign/detail/begin.hpp>

/// \file
/// Inference-time win rates, estimated from samples without bias.
namespace INFALIGN_NAMESPACE {

namespace detail {

/// The counts for one of the policy's responses to a prompt: of the policy's rewards (its own is tied), and of the
/// reference's.
struct win_counts {
  counts policy, reference;
  double weight;  // ½/t, with t the policy's rewards that are equal to its own
};

/// Above this number of comparisons, sorting is faster than counting.
inline constexpr double most_comparisons = 100'000;

/// Counts the responses to one prompt after another, in one memory.
template <real_scalar S>
class win_counter {
 public:
  win_counter(const char* function, unscored on_unscored) : call_{function, on_unscored} {}

  /// The counts of prompt p, in any order.
  ///
  /// Cost: M·(M + K) comparisons, several at a time; (M + K)·log(M + K) if they are many.
  template <reference_table A, reference_table B>
  const std::vector<win_counts>& operator()(const A& policy, const B& reference, Eigen::Index p) {
    const auto y = scored_of("policy", policy.row(p), p, policy_),
               z = scored_of("reference", reference.row(p), p, reference_);
    K_ = z.size();
    result_.resize(static_cast<std::size_t>(y.size()));
    const double M = static_cast<double>(y.size());
    if (M * (M + static_cast<double>(K_)) <= most_comparisons) {
      count(y, y, &win_counts::policy);
      count(z, y, &win_counts::reference);
    } else {
      sort(y, z);
    }
    for (auto& c : result_) c.weight = 0.5 / static_cast<double>(c.policy.tied);
    return result_;
  }

  /// The number of scored reference rewards of the last prompt.
  Eigen::Index K() const { return K_; }

 private:
  using row = Eigen::Map<const array<S>>;

  /// The scored rewards of a row: in place, or copied if some are not scored.
  row scored_of(const char* whose, row rewards, Eigen::Index p, std::vector<S>& copy) const {
    const auto scored = count_scored(call_, whose, rewards, p);
    if (scored == rewards.size()) return rewards;
    copy.clear();
    std::copy_if(rewards.begin(), rewards.end(), std::back_inserter(copy), [](S r) { return !is_nan(r); });
    return row(copy.data(), scored);
  }

  void count(row among, row rewards, counts win_counts::*which) {
    count_each(among.data(), among.size(), among.size(), rewards.data(), rewards.size(),
               [&](Eigen::Index i, int n, const auto& c) {
                 for (int j = 0; j < n; ++j) result_[static_cast<std::size_t>(i + j)].*which = c[j];
               });
  }

  void sort(row policy, row reference) {
    std::vector<S> y(policy.begin(), policy.end()), z(reference.begin(), reference.end());
    std::sort(y.begin(), y.end());
    std::sort(z.begin(), z.end());
    auto below = z.begin(), at_most = z.begin();
    for (auto i = y.begin(), begin = i; i != y.end(); begin = i) {
      const S reward = *i;
      while (i != y.end() && *i == reward) ++i;
      while (below != z.end() && *below < reward) ++below;
      at_most = std::max(at_most, below);
      while (at_most != z.end() && *at_most == reward) ++at_most;
      const win_counts of_reward{
          {static_cast<Eigen::Index>(begin - y.begin()), static_cast<Eigen::Index>(i - begin)},
          {static_cast<Eigen::Index>(below - z.begin()), static_cast<Eigen::Index>(at_most - below)},
          0};
      std::fill_n(result_.begin() + (begin - y.begin()), i - begin, of_reward);
    }
  }

  caller call_;
  std::vector<S> policy_, reference_;
  std::vector<win_counts> result_;
  Eigen::Index K_ = 0;
};

/// Calls f(policy, reference), with tables of rows, after a check that they have as many.
template <reference_rewards A, reference_rewards B, class F>
decltype(auto) with_rows(const char* function, const A& policy, const B& reference, const F& f) {
  static_assert(std::same_as<typename A::Scalar, typename B::Scalar>,
                "infalign::win_rate: policy and reference rewards must have the same scalar type (a float "
                "does not tie with the double it came from): cast one of them");
  decltype(auto) of_policy = rows_of(policy);
  decltype(auto) of_reference = rows_of(reference);
  check_size(function, "rows of reference rewards, one for each of the policy's", of_policy.rows(),
             of_reference.rows());
  return f(of_policy, of_reference);
}

/// `sample_cdf` of procedures at every count of responses below, computed once for each size of sample.
template <sample_procedure T>
class sample_cdfs {
 public:
  sample_cdfs(const char* function, std::span<const T> procedures) : function_(function), procedures_(procedures) {
    for (const T& procedure : procedures) check_part(procedure);
  }
  sample_cdfs(const char* function, const T& procedure) : sample_cdfs(function, std::span<const T>(&procedure, 1)) {}

  /// The table for samples of `count` responses: a column for each procedure. p is the first prompt that has one.
  const matrix<double>& of(Eigen::Index count, Eigen::Index p) {
    auto& table = tables_[count];
    if (table.size() > 0) return table;
    table.resize(count + 1, size_of(procedures_));
    for (Eigen::Index n = 0; n < table.cols(); ++n) {
      const T& procedure = procedures_[static_cast<std::size_t>(n)];
      const Eigen::Index needed = procedure.sample_size();
      if (count < needed)
        fail(function_, concat("at least ", needed, " scored responses to each prompt for this procedure"),
             concat(count, " at row ", p));
      for (Eigen::Index below = 0; below <= count; ++below) table(below, n) = procedure.sample_cdf(below, count);
    }
    return table;
  }

 private:
  const char* function_;
  std::span<const T> procedures_;
  std::map<Eigen::Index, matrix<double>> tables_;
};

/// The unbiased estimates of a prompt's win rate, one for each column of the CDFs, from the counts of its responses. Equal
/// rewards share what a procedure gives to them.
///
///     W = Σ_i (P[b + t] − P[b])/t·½·(R[b'] + R[b' + t'])
inline void win_rates_of(const std::vector<win_counts>& responses, const matrix<double>& policy_cdf,
                         const matrix<double>& reference_cdf, double* result) {
  const double *const P = policy_cdf.data(), *const R = reference_cdf.data();
  const Eigen::Index N = policy_cdf.cols();
  std::fill_n(result, N, 0.0);
  if (N == 1) {
    for (const auto& [own, reference, weight] : responses)
      *result += (P[own.below + own.tied] - P[own.below]) * weight *
                 (R[reference.below] + R[reference.below + reference.tied]);
    return;
  }
  for (const auto& [own, reference, weight] : responses) {
    const auto at = [N](const double* table, Eigen::Index count) {
      return Eigen::Map<const array<double>>(table + N * count, N);
    };
    Eigen::Map<array<double>>(result, N) += (at(P, own.below + own.tied) - at(P, own.below)) * weight *
                                            (at(R, reference.below) + at(R, reference.below + reference.tied));
  }
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
/// Cost: M·(M + K) comparisons per prompt, several at a time; (M + K)·log(M + K) if they are more than 100,000.
/// Errors: throws if the numbers of rows differ, if a procedure is invalid, and if a prompt has fewer scored responses
/// than its procedure draws.
/// NaN: an error; with `unscored::propagate` such responses are left out, and the win rate of a prompt without scored
/// responses of both is NaN.
template <reference_rewards A, reference_rewards B, sample_procedure T1, sample_procedure T2>
array<double> win_rates(const A& policy, const B& reference, const T1& policy_procedure, const T2& reference_procedure,
                        unscored on_unscored = unscored::error) {
  constexpr auto name = "win_rates";
  return detail::with_rows(name, policy, reference, [&](const auto& of_policy, const auto& of_reference) {
    detail::sample_cdfs<T1> policy_cdfs(name, {&policy_procedure, 1});
    detail::sample_cdfs<T2> reference_cdfs(name, {&reference_procedure, 1});
    detail::win_counter<typename A::Scalar> count(name, on_unscored);
    array<double> result(of_policy.rows());
    for (Eigen::Index p = 0; p < result.size(); ++p) {
      const auto& responses = count(of_policy, of_reference, p);
      if (responses.empty() || count.K() == 0)
        result[p] = detail::nan<double>;  // it is propagated
      else
        detail::win_rates_of(responses, policy_cdfs.of(detail::size_of(responses), p), reference_cdfs.of(count.K(), p),
                             &result[p]);
    }
    return result;
  });
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
/// responses of any prompt. Each prompt's rewards are counted once.
///
///     const auto curve = win_rate_curve<best_of>(policy_rewards, reference_rewards);      // or worst_of
template <sample_procedure T, reference_rewards A, reference_rewards B>
requires requires(int n) {
  T{n};
}
std::vector<mean_estimate> win_rate_curve(const A& policy, const B& reference, unscored on_unscored = unscored::error) {
  constexpr auto name = "win_rate_curve";
  return detail::with_rows(name, policy, reference, [&](const auto& of_policy, const auto& of_reference) {
    const auto P = of_policy.rows();
    if (P == 0) detail::fail(name, "at least one prompt", "none");
    Eigen::Index most = 0;
    for (Eigen::Index p = 0; p < P; ++p) {
      const auto fewer = std::min(detail::count_scored({name, on_unscored}, "policy", of_policy.row(p), p),
                                  detail::count_scored({name, on_unscored}, "reference", of_reference.row(p), p));
      if (fewer > 0) most = most > 0 ? std::min(most, fewer) : fewer;
    }
    std::vector<T> procedures;
    for (int n = 1; n <= most; ++n) procedures.push_back(T{n});
    detail::sample_cdfs<T> cdfs(name, procedures);
    matrix<double> rates = matrix<double>::Constant(P, most, detail::nan<double>);
    detail::win_counter<typename A::Scalar> count(name, on_unscored);
    for (Eigen::Index p = 0; p < P; ++p)
      if (const auto& responses = count(of_policy, of_reference, p); !responses.empty() && count.K() > 0)
        detail::win_rates_of(responses, cdfs.of(detail::size_of(responses), p), cdfs.of(count.K(), p), &rates(p, 0));
    std::vector<mean_estimate> result;
    for (Eigen::Index n = 0; n < most; ++n) result.push_back(detail::mean_of_scored(rates.col(n)));
    return result;
  });
}

}  // namespace INFALIGN_NAMESPACE

#include <infalign/detail/end.hpp>
