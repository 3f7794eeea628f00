// SPDX-License-Identifier: MIT
#pragma once

#include "step.hpp"

namespace infalign::python {

/// Which combinations of types a step allows; the library refuses the others when it is compiled.
template <class KL, class Surrogate, class Aggregation>
constexpr bool allowed() {
  constexpr bool sums = std::same_as<Aggregation, sequence_mean_of_token_sums>;
  if (detail::of_whole_response<Surrogate> && (!sums || KL::place == kl_place::reward_to_go)) return false;
  if (std::same_as<Surrogate, regression> && KL::place != kl_place::none) return false;
  return KL::place != kl_place::sequence_loss || sums;
}

[[noreturn]] inline void refuse(const char* function) {
  detail::fail(function, "parts that go together",
               "others: a surrogate or KL loss of whole responses takes sequence_mean_of_token_sums, a clip of whole "
               "responses no k1_reward_to_go, and regression no_kl and no_baseline");
}

template <real_scalar S>
step_result<S> run_step(const step_parts& parts, const token_batch<S, std::uint8_t>& batch,
                        const batch_rewards<S>& rewards, const any_reduction& reduce) {
  return std::visit(
      [&]<class KL, class F, class A>(const KL& kl, const F& surrogate, const A& aggregation) -> step_result<S> {
        if constexpr (!allowed<KL, F, A>()) {
          refuse("policy_gradient");
        } else {
          const auto run = [&](const auto& estimator) {
            const policy_gradient step{kl, estimator, surrogate, aggregation, parts.on_unscored};
            return rewards.with([&](const auto&... of_batch) { return step(batch, of_batch..., reduce); });
          };
          if constexpr (std::same_as<F, regression>) {
            if (!parts.estimator.no_comparison()) refuse("policy_gradient");
            return run(no_baseline{});
          } else {
            if (parts.estimator.linear()) return run(erased_estimator<true>{&parts.estimator});
            return run(erased_estimator<false>{&parts.estimator});
          }
        }
      },
      parts.kl, parts.surrogate, parts.aggregation);
}

template <real_scalar S>
step_result<S> run_loss(const step_parts& parts, const token_batch<S, std::uint8_t>& batch,
                        const rows_in<S>& advantages, const std::optional<batch_size>& size) {
  return std::visit(
      [&]<class KL, class F, class A>(const KL& kl, const F& surrogate, const A& aggregation) -> step_result<S> {
        if constexpr (!allowed<KL, F, A>() || detail::kl_in_reward<KL>) {
          if constexpr (detail::kl_in_reward<KL>)
            detail::fail("policy_loss", "a KL loss or no_kl(): a KL in the reward is part of the advantages",
                         "one in the reward");
          refuse("policy_loss");
        } else {
          const policy_loss loss{kl, surrogate, aggregation, parts.on_unscored};
          const auto run = [&](const auto& a) { return size ? loss(batch, a, *size) : loss(batch, a); };
          if (advantages.flat) return run(advantages.as_column());
          if constexpr (detail::of_whole_response<F>)
            detail::fail("policy_loss", "one advantage for each response with this surrogate", "one for each token");
          else
            return run(advantages.as_matrix());
        }
      },
      parts.kl, parts.surrogate, parts.aggregation);
}

template <real_scalar S>
matrix<S> run_advantages(const step_parts& parts, const token_batch<S, std::uint8_t>& batch,
                         const batch_rewards<S>& rewards, const any_reduction& reduce) {
  return std::visit(
      [&]<class KL>(const KL& kl) -> matrix<S> {
        if constexpr (detail::kl_in_loss<KL>) {
          detail::fail("policy_advantages", "no_kl() or a KL in the reward: a KL loss is part of policy_loss",
                       "a KL loss");
        } else {
          const auto run = [&](const auto& estimator) -> matrix<S> {
            const policy_advantages credit{kl, estimator, parts.on_unscored};
            return rewards.with([&](const auto&... of_batch) { return matrix<S>(credit(batch, of_batch..., reduce)); });
          };
          if (parts.estimator.linear()) return run(erased_estimator<true>{&parts.estimator});
          return run(erased_estimator<false>{&parts.estimator});
        }
      },
      parts.kl);
}

}  // namespace infalign::python
