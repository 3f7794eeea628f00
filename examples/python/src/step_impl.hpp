// SPDX-License-Identifier: MIT
#pragma once

#include "step.hpp"

namespace infalign::python {

/// An estimator whose type says whether it is linear, as the step needs to know.
template <bool Linear>
struct erased_estimator {
  const any_estimator& of;
  static constexpr bool linear = Linear;
  int smallest_group() const { return of.smallest_group(); }
  /// The advantages of one group.
  template <vector_expression R>
  array<typename R::Scalar> operator()(const R& group, const reward_moments& of_batch) const {
    using S = typename R::Scalar;
    return std::visit(
        [&]<class E>(const E& e) -> array<S> {
          if constexpr (detail::estimates_in_place<E, R>) {
            array<S> result(group.size());
            e(group, Eigen::Map<array<S>>(result.data(), result.size()), nullptr);
            return result;
          } else if constexpr (detail::needs_moments<E>) {
            return e(group, of_batch);
          } else if constexpr (detail::estimates_with_mean<E, R>) {
            return e(group, of_batch.mean);
          } else {
            return e(group);
          }
        },
        of.estimator);
  }
};

template <real_scalar S>
void run_advantage(const any_estimator& estimator, const batch_view<S>& rewards, unscored on_unscored,
                   Eigen::Map<matrix<S>> result) {
  rewards.write(result, [&](auto&& out, const auto&... of_batch) {
    advantage_into(out, of_batch..., erased_estimator<false>{estimator}, on_unscored);
  });
}

/// Calls f(kl, estimator) with the KL term in the reward, and the estimator as a type that the step treats as it should.
template <class F>
auto with_credit(const step_parts& parts, const F& f) {
  return std::visit(
      [&]<class KL>(const KL& kl) {
        if (parts.estimator.no_comparison()) return f(kl, no_baseline{});
        if constexpr (detail::kl_in_reward<KL>)
          if (parts.estimator.linear()) return f(kl, erased_estimator<true>{parts.estimator});
        return f(kl, erased_estimator<false>{parts.estimator});
      },
      parts.kl.in_reward);
}

template <real_scalar S>
step_result<S> run_step(const step_parts& parts, const token_batch<S, std::uint8_t>& batch,
                        const batch_view<S>& rewards, const any_reduction& reduce) {
  constexpr auto name = "policy_gradient";
  const loss_parts of_loss = parts.of_loss();
  const any_loss_stage loss{of_loss};
  step_result<S> result;
  const auto run = [&](const auto& all_reduce) {
    with_credit(parts, [&](const auto& kl, const auto& estimator) {
      rewards.with([&](const auto&... of_batch) {
        detail::with_batch(
            name,
            [&](const auto& batch_prompts, const auto& batch_rewards) {
              detail::take_step({name, parts.on_unscored}, kl, estimator, loss, result, nullptr, batch, batch_prompts,
                                batch_rewards, all_reduce);
            },
            of_batch...);
      });
    });
  };
  detail::as_shard<detail::credit_totals, step_averages>(name, run, reduce);
  return result;
}

template <real_scalar S>
step_result<S> run_loss(const step_parts& parts, const token_batch<S, std::uint8_t>& batch,
                        const number_rows<S>& advantages, const std::optional<batch_size>& size) {
  const loss_parts of_loss = parts.of_loss();
  step_result<S> result;
  const auto run = [&](const auto& a) {
    const auto whole = size ? *size : detail::size_of_whole(batch, a, parts.on_unscored);
    detail::loss_of_advantages(any_loss_stage{of_loss}, parts.on_unscored, result, nullptr, batch, a, whole);
  };
  if (advantages.flat)
    run(advantages.as_column());
  else
    run(advantages.as_matrix());
  return result;
}

template <real_scalar S>
matrix<S> run_advantages(const step_parts& parts, const token_batch<S, std::uint8_t>& batch,
                         const batch_view<S>& rewards, const any_reduction& reduce) {
  return with_credit(parts, [&](const auto& kl, const auto& estimator) -> matrix<S> {
    const policy_advantages credit{kl, estimator, parts.on_unscored};
    return rewards.with([&](const auto&... of_batch) { return matrix<S>(credit(batch, of_batch..., reduce)); });
  });
}

}  // namespace infalign::python
