// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/procedure.hpp>

#include <cmath>
#include <tuple>
#include <utility>

#include <infalign/detail/begin.hpp>

/// \file
/// How a model is used: through one pair of procedures, or through several, by different users.
namespace INFALIGN_NAMESPACE {

/// A share of the users, who use the policy through one procedure, against the reference through another.
///
///     user_share{0.5, best_of{8}}                      // half of the users; one procedure for both
///     user_share{0.3, best_of{8}, plain_sampling{}}    // the reference is sampled once
///
/// With (G₁, g₁) of the policy, (G₂, g₂) of the reference, and F the CDF of the policy's calibrated reward:
///
///     W = 1 − ∫ G₁(F) g₂ du
template <procedure T1, procedure T2 = T1>
struct user_share {
  double share;  ///< Above 0; the shares of a `mixed_use` sum to 1.
  T1 policy;     ///< The procedure of the policy.
  T2 reference;  ///< The procedure of the reference.

  /// A use with one procedure for both.
  user_share(double of_users, T1 both) : share(of_users), policy(both), reference(std::move(both)) {}
  /// A procedure for each.
  user_share(double of_users, T1 of_policy, T2 of_reference)
      : share(of_users), policy(std::move(of_policy)), reference(std::move(of_reference)) {}

  /// Throws unless the share is finite and above 0, and the procedures' parameters are right.
  void check() const {
    detail::check_positive("user_share", "a share", share);
    detail::check_part(policy);
    detail::check_part(reference);
  }
  /// share·G₁(F)·g₂(u): the rate of losses at u.
  double loss(double F, double u) const { return share * policy.cdf(F) * reference.density(u); }
  /// share·g₁(F)·g₂(u): how fast the best transform for F rises at u.
  double slope(double F, double u) const { return share * policy.density(F) * reference.density(u); }
  /// share·g₁(F)·(G₂(to) − G₂(from)): how much it rises if F is constant.
  double rise(double F, double from, double to) const {
    return share * policy.density(F) * (reference.cdf(to) - reference.cdf(from));
  }
  /// True if G₁ is convex, as for best-of-n, to within the accuracy of a numerical density.
  bool convex() const {
    bool result = true;
    for (int i = 0; i < 64 && result; ++i) result = policy.density(i / 64.0) <= policy.density((i + 1) / 64.0) + 1e-9;
    return result;
  }
};

/// Deduces one procedure for both.
template <procedure T>
user_share(double, T) -> user_share<T>;
/// Deduces a procedure for each.
template <procedure T1, procedure T2>
user_share(double, T1, T2) -> user_share<T1, T2>;

/// Several uses at once. Its win rate is the mean of theirs, weighted by their shares:
///
///     W = Σ share·W of each use
///
/// Pass it in place of procedures to `optimal_transform`, `best_exponential`, `ascent_transform` and to the `win_rate` of
/// an `aligned_policy`:
///
///     const mixed_use half_and_half{user_share{0.5, plain_sampling{}}, user_share{0.5, best_of{8}}};
///     const auto phi = optimal_transform(half_and_half, at_kl{0.5});
///
/// Errors: functions that take it throw if a share is not above 0, or if the shares do not sum to 1 (to 1e-9).
/// Source: the sum over uses of the first variation of each; compare Takakura et al., arXiv:2602.01603.
template <class... Uses>
class mixed_use {
 public:
  /// Of one or more uses.
  explicit mixed_use(Uses... uses) : uses_(std::move(uses)...) {}

  /// Throws unless the uses are right and their shares sum to 1.
  void check() const {
    const double sum = total([](const auto& u) { return u.check(), u.share; });
    if (!(std::abs(sum - 1) <= 1e-9)) detail::fail("mixed_use", "shares that sum to 1", detail::concat(sum));
  }
  /// The sum of the uses' `loss`.
  double loss(double F, double u) const {
    return total([=](const auto& use) { return use.loss(F, u); });
  }
  /// The sum of the uses' `slope`.
  double slope(double F, double u) const {
    return total([=](const auto& use) { return use.slope(F, u); });
  }
  /// The sum of the uses' `rise`.
  double rise(double F, double from, double to) const {
    return total([=](const auto& use) { return use.rise(F, from, to); });
  }
  /// True if all are.
  bool convex() const {
    return std::apply([](const auto&... use) { return (use.convex() && ...); }, uses_);
  }

 private:
  template <class F>
  double total(const F& f) const {
    return std::apply([&](const auto&... use) { return (0.0 + ... + f(use)); }, uses_);
  }

  std::tuple<Uses...> uses_;
};

/// How the policy and the reference are used: a `mixed_use`.
template <class U>
concept inference_use = requires(const U& use, double x) {
  { use.loss(x, x) } -> std::convertible_to<double>;
  { use.slope(x, x) } -> std::convertible_to<double>;
  { use.rise(x, x, x) } -> std::convertible_to<double>;
  { use.convex() } -> std::convertible_to<bool>;
};

namespace detail {

/// One pair of procedures, which all users have.
template <procedure T1, procedure T2>
auto only_use(const T1& policy, const T2& reference) {
  return mixed_use{user_share{1.0, policy, reference}};
}

}  // namespace detail

static_assert(inference_use<mixed_use<user_share<best_of>>>);

}  // namespace INFALIGN_NAMESPACE

#include <infalign/detail/end.hpp>
