// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/counting.hpp>
#include <infalign/estimate.hpp>
#include <infalign/procedure.hpp>
#include <infalign/workspace.hpp>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <span>
#include <vector>

/// Win rates: how often what the aligned model shows beats what the reference model shows,
///
///     W = P(r(Y) > r(Z)) + ½·P(r(Y) = r(Z)),   Y ~ T₁(policy), Z ~ T₂(reference).
namespace infalign {

namespace detail {

/// W from below to above: told, at each level of reward that occurs, the chance that what the policy and the reference
/// show is at most that.
struct level_sum {
  double win_rate = 0, policy = 0, reference = 0;

  void operator()(double policy_at_most, double reference_at_most) {
    win_rate += (policy_at_most - policy) * 0.5 * (reference + reference_at_most);
    policy = policy_at_most;
    reference = reference_at_most;
  }
};

inline void check_probabilities(const char* what, const array<double>& p) {
  constexpr auto function = "exact_win_rate";
  double sum = 0;
  for (Eigen::Index k = 0; k < p.size(); ++k) {
    if (!is_finite(p[k]) || p[k] < 0) fail(function, text(what, " probabilities of at least 0"), text(p[k], at(k)));
    sum += p[k];
  }
  if (!(std::abs(sum - 1) <= 1e-5)) fail(function, text(what, " probabilities that sum to 1"), text(sum));
}

}  // namespace detail

// Of a known policy.

/// The inference-time win rate of a policy over a finite set of K responses to one prompt, exactly.
///
/// rewards, policy, reference: K each; the last two are probabilities over the same responses (to 1e-5, and
/// normalised). In [0, 1]; ½ where policy and procedures are the same. Accuracy: 1e-14 a response. Cost: K log K.
/// Throws where sizes differ, K = 0, a reward is NaN or the probabilities are none.
template <vector_expression R, vector_expression P, vector_expression Q, procedure T1, procedure T2>
double exact_win_rate(const R& rewards, const P& policy, const Q& reference, const T1& policy_procedure,
                      const T2& reference_procedure) {
  using namespace detail;
  const array<double> r = as_column(rewards).template cast<double>();
  array<double> p = as_column(policy).template cast<double>(), q = as_column(reference).template cast<double>();
  if (r.size() == 0) fail("exact_win_rate", "at least one response", "none");
  check_size("exact_win_rate", "policy probabilities, one for each reward", r.size(), p.size());
  check_size("exact_win_rate", "reference probabilities, one for each reward", r.size(), q.size());
  check_scored("exact_win_rate", r.data(), r.size(), 0, unscored::error);
  check_probabilities("policy", p);
  check_probabilities("reference", q);
  p /= p.sum();
  q /= q.sum();

  std::vector<Eigen::Index> order(static_cast<std::size_t>(r.size()));
  std::iota(order.begin(), order.end(), Eigen::Index{0});
  std::sort(order.begin(), order.end(), [&](Eigen::Index a, Eigen::Index b) { return r[a] < r[b]; });

  detail::level_sum sum;
  double policy_cdf = 0, reference_cdf = 0;
  for (std::size_t k = 0; k < order.size();) {
    const double level = r[order[k]];
    for (; k < order.size() && r[order[k]] == level; ++k) {
      policy_cdf += p[order[k]];
      reference_cdf += q[order[k]];
    }
    const bool top = k == order.size();
    sum(policy_procedure.cdf(top ? 1.0 : std::min(policy_cdf, 1.0)),
        reference_procedure.cdf(top ? 1.0 : std::min(reference_cdf, 1.0)));
  }
  return sum.win_rate;
}

/// The same where policy and reference are used with one procedure.
template <vector_expression R, vector_expression P, vector_expression Q, procedure T>
double exact_win_rate(const R& rewards, const P& policy, const Q& reference, const T& both) {
  return exact_win_rate(rewards, policy, reference, both, both);
}

// From samples.

namespace detail {

/// How many of M policy rewards and of K reference rewards are at most a level, for each level of reward that occurs.
struct level {
  Eigen::Index policy, reference;
};
using levels_view = std::span<const level>;

/// The scored of a row, sorted into `result`. Returns how many.
template <real_scalar S>
Eigen::Index sorted_row(const char* function, const char* whose, Eigen::Map<const array<S>> row, Eigen::Index p,
                        unscored policy, S* result) {
  const auto scored = count_scored(function, whose, row.data(), row.size(), p, policy);
  S* const end = std::copy_if(row.data(), row.data() + row.size(), result, [](S x) { return !is_nan(x); });
  std::sort(result, end);
  return scored;
}

template <reference_table T>
Eigen::Index largest_row(const T& table) {
  Eigen::Index result = 0;
  for (Eigen::Index p = 0; p < table.rows(); ++p) result = std::max(result, table.row(p).size());
  return result;
}

/// Calls f(p, levels of prompt p) for each prompt.
template <reference_rewards A, reference_rewards B, class F>
void for_each_prompt(const char* function, workspace* space, const A& policy, const B& reference,
                     unscored unscored_policy, F f) {
  using S = typename A::Scalar;
  static_assert(std::same_as<S, typename B::Scalar>,
                "infalign::win_rate: policy and reference rewards must have the same scalar type (a float "
                "does not tie with the double it came from): cast one of them");
  decltype(auto) of_policy = rows_of(policy);
  decltype(auto) of_reference = rows_of(reference);
  check_size(function, "rows of reference rewards, one for each of the policy's", of_policy.rows(),
             of_reference.rows());
  scratch<S> y(space, largest_row(of_policy)), z(space, largest_row(of_reference));
  scratch<level> levels(space, y.size() + z.size());
  for (Eigen::Index p = 0; p < of_policy.rows(); ++p) {
    const auto M = sorted_row<S>(function, "policy", of_policy.row(p), p, unscored_policy, y.data());
    const auto K = sorted_row<S>(function, "reference", of_reference.row(p), p, unscored_policy, z.data());
    std::size_t count = 0;
    for (Eigen::Index i = 0, j = 0; i < M || j < K;) {
      const S reward = j == K || (i < M && y[i] < z[j]) ? y[i] : z[j];
      while (i < M && y[i] == reward) ++i;
      while (j < K && z[j] == reward) ++j;
      levels[static_cast<Eigen::Index>(count++)] = {i, j};
    }
    f(p, levels_view(levels.data(), count));
  }
}

/// `sample_cdf` of a procedure at every count of responses below: worked out once for each size of sample, of which it
/// remembers eight at a time.
template <sample_procedure T>
class sample_cdfs {
 public:
  static constexpr Eigen::Index slots = 8;
  static Eigen::Index memory_for(Eigen::Index largest) { return slots * (largest + 1); }

  /// memory: of `memory_for` the largest sample.
  sample_cdfs(const char* function, T t, double* memory, Eigen::Index largest)
      : function_(function), procedure_(std::move(t)), memory_(memory), stride_(largest + 1) {}

  const double* of(Eigen::Index count, Eigen::Index p) {
    const auto slot = count % slots;
    double* const cdf = memory_ + slot * stride_;
    if (counts_[slot] != count) {
      const Eigen::Index needed = procedure_.sample_size();
      if (count < needed)
        fail(function_, text("at least ", needed, " scored responses to each prompt for this procedure"),
             text(count, " at row ", p));
      for (Eigen::Index below = 0; below <= count; ++below) cdf[below] = procedure_.sample_cdf(below, count);
      counts_[slot] = count;
    }
    return cdf;
  }

 private:
  const char* function_;
  T procedure_;
  double* memory_;
  Eigen::Index stride_, counts_[slots] = {};
};

/// The unbiased estimate of one prompt's win rate: the share of the pairs of sets that the two procedures could draw
/// which the policy wins.
inline double sample_win_rate(levels_view levels, const double* policy_cdf, const double* reference_cdf) {
  level_sum sum;
  for (const auto [policy, reference] : levels) sum(policy_cdf[policy], reference_cdf[reference]);
  return sum.win_rate;
}

/// `win_rates` into a buffer of its size.
template <reference_rewards A, reference_rewards B, sample_procedure T1, sample_procedure T2>
void sample_win_rates(double* result, workspace* space, const A& policy, const B& reference, const T1& policy_procedure,
                      const T2& reference_procedure, unscored unscored_policy) {
  const auto M = largest_row(rows_of(policy)), K = largest_row(rows_of(reference));
  scratch<double> policy_memory(space, sample_cdfs<T1>::memory_for(M));
  scratch<double> reference_memory(space, sample_cdfs<T2>::memory_for(K));
  sample_cdfs<T1> of_policy("win_rates", policy_procedure, policy_memory.data(), M);
  sample_cdfs<T2> of_reference("win_rates", reference_procedure, reference_memory.data(), K);
  for_each_prompt("win_rates", space, policy, reference, unscored_policy, [&](Eigen::Index p, levels_view levels) {
    const auto [m, k] = levels.back();
    result[p] = sample_win_rate(levels, of_policy.of(m, p), of_reference.of(k, p));
  });
}

}  // namespace detail

/// The inference-time win rate on each prompt, estimated without bias from M rewards of the policy's responses and K of
/// the reference's: the share, among all pairs of sets that the procedures could draw from them, of those that the
/// policy wins, ties ½. (For best-of-n the i-th smallest of M is shown with probability C(i − 1, n − 1)/C(M, n).) A
/// reference that calibrated the rewards that were trained on must not be used here: the policy has learnt its sampling
/// errors, and would seem better than it is.
///
/// policy: P × M; reference: P × K; or any `reference_table`, so that M and K may differ by prompt. The procedures
/// default to be the same. Returns P numbers in [0, 1]. Cost: (M + K)·log(M + K) a prompt. NaN: an error, or with
/// `unscored::carry` left out. Throws where the rows differ in number, and where a prompt has fewer scored responses
/// than its procedure draws.
template <reference_rewards A, reference_rewards B, sample_procedure T1, sample_procedure T2>
array<double> win_rates(const A& policy, const B& reference, const T1& policy_procedure, const T2& reference_procedure,
                        unscored unscored_policy = unscored::error) {
  array<double> result(policy.rows());
  detail::sample_win_rates(result.data(), nullptr, policy, reference, policy_procedure, reference_procedure,
                           unscored_policy);
  return result;
}
template <reference_rewards A, reference_rewards B, sample_procedure T>
array<double> win_rates(const A& policy, const B& reference, const T& both,
                        unscored unscored_policy = unscored::error) {
  return win_rates(policy, reference, both, both, unscored_policy);
}

/// `win_rates` into the caller's buffer. When it throws, it holds anything.
template <reference_rewards A, reference_rewards B, sample_procedure T1, sample_procedure T2>
void win_rates_into(array<double>& result, workspace& space, const A& policy, const B& reference,
                    const T1& policy_procedure, const T2& reference_procedure,
                    unscored unscored_policy = unscored::error) {
  result.resize(policy.rows());
  detail::sample_win_rates(result.data(), &space, policy, reference, policy_procedure, reference_procedure,
                           unscored_policy);
}

/// The mean of `win_rates` over prompts, with its standard error and 95 % interval. Two policies on the same prompts
/// are compared by the mean of their difference: mean_over_prompts(win_rates(a, …) − win_rates(b, …)).
///
///     const estimate w = win_rate(policy_rewards, reference_rewards, best_of{4});
///     w.mean, w.standard_error, w.low, w.high
template <reference_rewards A, reference_rewards B, sample_procedure T1, sample_procedure T2>
estimate win_rate(const A& policy, const B& reference, const T1& policy_procedure, const T2& reference_procedure,
                  unscored unscored_policy = unscored::error) {
  return mean_over_prompts(win_rates(policy, reference, policy_procedure, reference_procedure, unscored_policy));
}
template <reference_rewards A, reference_rewards B, sample_procedure T>
estimate win_rate(const A& policy, const B& reference, const T& both, unscored unscored_policy = unscored::error) {
  return win_rate(policy, reference, both, both, unscored_policy);
}

/// The win rate against n: element n − 1 is `win_rate` with T{n} for both, for n from 1 to the least M or K of any
/// prompt, in one pass that sorts each prompt's rewards once.
///
///     const auto curve = win_rate_curve<best_of>(policy_rewards, reference_rewards);      // or worst_of
template <sample_procedure T, reference_rewards A, reference_rewards B>
requires requires(int n) {
  T{n};
}
std::vector<estimate> win_rate_curve(const A& policy, const B& reference, unscored unscored_policy = unscored::error) {
  std::vector<std::vector<double>> of_n;  // by n − 1, then by prompt
  std::vector<detail::sample_cdfs<T>> cdfs;
  const auto largest =
      std::max(detail::largest_row(detail::rows_of(policy)), detail::largest_row(detail::rows_of(reference)));
  std::vector<array<double>> memory;
  detail::for_each_prompt(
      "win_rate_curve", nullptr, policy, reference, unscored_policy, [&](Eigen::Index p, detail::levels_view levels) {
        const auto [M, K] = levels.back();
        const auto most = static_cast<std::size_t>(std::min(M, K));
        if (p == 0) of_n.resize(most);
        if (most < of_n.size()) of_n.resize(most);
        while (cdfs.size() < of_n.size()) {
          memory.emplace_back(detail::sample_cdfs<T>::memory_for(largest));
          cdfs.emplace_back("win_rate_curve", T{static_cast<int>(cdfs.size()) + 1}, memory.back().data(), largest);
        }
        for (std::size_t n = 0; n < of_n.size(); ++n)
          of_n[n].push_back(detail::sample_win_rate(levels, cdfs[n].of(M, p), cdfs[n].of(K, p)));
      });
  if (of_n.empty()) detail::fail("win_rate_curve", "at least one prompt", "none");
  std::vector<estimate> result;
  for (const auto& values : of_n)
    result.push_back(mean_over_prompts(Eigen::Map<const array<double>>(values.data(), std::ssize(values))));
  return result;
}

}  // namespace infalign
