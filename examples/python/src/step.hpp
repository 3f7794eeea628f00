// SPDX-License-Identifier: MIT
#pragma once

// The step of parts that are chosen when a program runs: rewards to advantages, and then the loss of loss.hpp.
#include "batch.hpp"
#include "loss.hpp"

#include <functional>

namespace infalign::python {

/// A KL term: in the reward, in the loss, or none.
struct any_kl {
  std::variant<no_kl, k1_in_reward, k1_reward_to_go> in_reward;
  any_kl_loss in_loss;
};

/// A Python function as an estimator.
struct called_estimator {
  std::function<array<float>(const detail::float_group&)> of_floats;
  std::function<array<double>(const detail::double_group&)> of_doubles;
  array<float> operator()(const detail::float_group& group) const { return of_floats(group); }
  array<double> operator()(const detail::double_group& group) const { return of_doubles(group); }
};

struct any_estimator {
  std::variant<no_baseline, batch_mean, group_mean, leave_one_out, group_standardized, batch_standardized, max_at_n,
               centered_max_at_n, min_at_n, order_weighted, max_rl, called_estimator>
      estimator;

  bool linear() const {
    return std::visit([]<class E>(const E&) { return detail::is_linear<E>; }, estimator);
  }
  bool no_comparison() const { return std::holds_alternative<no_baseline>(estimator); }
  int smallest_group() const {
    return std::visit([](const auto& e) { return static_cast<int>(detail::smallest_group(e)); }, estimator);
  }
};

/// An all-reduce of Python, or a function that does nothing.
using any_reduction = std::function<void(Eigen::Ref<array<double>>, reduce_op)>;

/// The parts of a step, loss or advantages.
struct step_parts {
  any_kl kl;
  any_estimator estimator;
  any_surrogate surrogate;
  any_aggregation aggregation;
  unscored on_unscored = unscored::error;

  loss_parts of_loss() const { return {kl.in_loss, surrogate, aggregation}; }
};

template <real_scalar S>
void run_advantage(const any_estimator& estimator, const batch_view<S>& rewards, unscored on_unscored,
                   Eigen::Map<matrix<S>> result);
template <real_scalar S>
step_result<S> run_step(const step_parts& parts, const token_batch<S, std::uint8_t>& batch,
                        const batch_view<S>& rewards, const any_reduction& reduce);
template <real_scalar S>
step_result<S> run_loss(const step_parts& parts, const token_batch<S, std::uint8_t>& batch,
                        const number_rows<S>& advantages, const std::optional<batch_size>& size);
/// B advantages, or B × T for reward-to-go.
template <real_scalar S>
matrix<S> run_advantages(const step_parts& parts, const token_batch<S, std::uint8_t>& batch,
                         const batch_view<S>& rewards, const any_reduction& reduce);

}  // namespace infalign::python
