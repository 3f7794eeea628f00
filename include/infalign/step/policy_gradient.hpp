// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/step/max_at_n.hpp>
#include <infalign/step/policy_advantages.hpp>
#include <infalign/step/policy_loss.hpp>

#include <algorithm>
#include <utility>

#include <infalign/detail/begin.hpp>

/// \file
/// One step of KL-regularised policy gradient: from log-probabilities and shaped rewards to a loss and its gradient by
/// the log-probabilities.
///
/// The step has four stages: read the tokens of a response (detail/token_reader.hpp), turn rewards into advantages
/// (step/policy_advantages.hpp), compute the terms of the loss for each token or response (detail/unit_terms.hpp), and
/// aggregate them (step/policy_loss.hpp).
namespace INFALIGN_NAMESPACE {

namespace detail {

/// Adds the metrics of the rewards of a batch.
template <real_scalar S>
void add_rewards(step_metrics& metrics, const groups& g, const S* rewards, double mean_reward) {
  for (Eigen::Index i = 0; i < g.size(); ++i) {
    if (is_nan(rewards[i])) continue;
    metrics.reward.add(static_cast<double>(rewards[i]));
    metrics.reward_std.add(static_cast<double>(rewards[i]) - mean_reward);
  }
  g.for_each(rewards, [&](Eigen::Map<const array<S>> group, Eigen::Index) {
    metrics.frac_reward_zero_std.add(
        std::all_of(group.data(), group.data() + group.size(), [&](S r) { return r == group[0]; }));
  });
}

/// Adds the metrics of the KL of each prompt.
template <real_scalar S, class Prompts>
void add_prompts(step_metrics& metrics, workspace* space, bool has_reference, const Prompts& prompts, const groups& g,
                 const S* rewards, const response_sums* sums) {
  scratch<double> kl(space, prompts.size());
  for (Eigen::Index i = 0; i < prompts.size(); ++i) kl[i] = is_nan(rewards[i]) ? nan<double> : sums[i].to_reference;
  g.for_each(kl.data(), [&](Eigen::Map<const array<double>> group, Eigen::Index first) {
    if (!has_reference) return metrics.kl_of_prompt_above_0.add(nan<double>);
    metric_mean of_prompt;
    for (const double k : group) of_prompt.add(k);
    const double mean = of_prompt;
    metrics.kl_of_prompt_above_0.add(std::max(mean, 0.0));
    take_larger(metrics.kl_of_prompt_max, metrics.kl_max_prompt, {mean}, {static_cast<double>(prompts[first])});
  });
}

/// The step. `kl`: in the reward, or none. `loss`: a `loss_stage`, or another type with its `run`.
template <kl_term KL, advantage_estimator E, class Loss, real_scalar S, class Mask, class Prompts, class R,
          class Reduce>
void take_step(const caller& call, const KL& kl, const E& estimator, const Loss& loss, step_result<S>& result,
               workspace* space, const token_batch<S, Mask>& batch, const Prompts& prompts, const R& rewards,
               const Reduce& reduce) {
  const auto B = prompts.size();
  scratch<S> values(space, B), advantages(space, B), compared(space, B);
  scratch<response_sums> sums(space, B);
  copy_rewards(rewards, packed_rows(values.data(), prompts));
  const groups g(prompts, space);
  const auto credit = assign_credit(call, kl, estimator, batch, prompts, g, values.data(), advantages.data(),
                                    compared.data(), sums.data(), space, reduce);
  step_metrics of_rewards;
  add_rewards(of_rewards, g, values.data(), credit.mean_reward);

  const auto run = [&](const auto& of_tokens) {
    loss.run(call.function, result, space, batch, credit.size, of_tokens, credit.centre, sums.data(), kl_in_reward<KL>);
  };
  if constexpr (KL::place == kl_place::reward_to_go)
    run(to_go_credit<S>{advantages.data(), compared.data(), kl.beta});
  else
    run(response_credit<S>{advantages.data()});
  result.metrics += of_rewards;
  add_prompts(result.metrics, space, batch.reference_log_probabilities.given(), prompts, g, values.data(), sums.data());
  if constexpr (!std::same_as<Reduce, whole_batch>) {
    reduce.template sum<step_averages>(result.metrics);
    reduce_extremes(result.metrics, reduce);
  }
}

}  // namespace detail

/// A step that maximises J(θ) = E[R(y)] − β·KL(π_θ ‖ π_ref). The trainer back-propagates `gradient` through its own
/// log-probabilities.
///
///     policy_gradient step{k1_in_reward{.beta = 0.05}, leave_one_out{}, ppo_clip{}};
///     auto out = step(batch, rewards);           // rewards P × M, with B = P·M in row-major order
///     auto out = step(batch, prompt, rewards);   // a flat batch: response i belongs to prompt[i]
///     out.loss, out.gradient, out.metrics
///
/// Its parts are the KL term, the advantage estimator, the surrogate and the aggregation. It equals `policy_advantages`
/// followed by `policy_loss`, with less memory. The mean of −gradient over batches sampled from π_θ is exactly ∇J with
/// `no_kl`, `k1_in_reward`, `k1_reward_to_go` or `k2_loss`; with `no_baseline` or `leave_one_out`; with `reinforce`
/// (the default) and `sequence_mean_of_token_sums` (the default).
///
/// If a group is too small for the estimator, its responses get no gradient from the reward or from a KL in the reward;
/// a KL loss still applies. A response without unmasked tokens has gradient 0 but still counts as a response in every
/// mean.
///
/// Shapes: log_probabilities B × T; rewards P × M with B = P·M, or B with B prompt indices. The gradient is B × T.
/// NaN: a NaN reward is an error; with `unscored::propagate` the response has gradient 0, affects no other response,
/// and is in no metric.
/// Errors: if shapes differ, an unmasked log-probability is not finite, a mask is not 0 or 1, a reward or advantage is
/// infinite, or the loss or its gradient is not finite.
template <kl_term KL, advantage_estimator Estimator, surrogate Surrogate = reinforce,
          aggregation Aggregation = sequence_mean_of_token_sums>
class policy_gradient {
  using reward_kl = std::conditional_t<detail::kl_in_loss<KL>, no_kl, KL>;
  using loss_kl = std::conditional_t<detail::kl_in_loss<KL>, KL, no_kl>;
  static constexpr bool regresses = Surrogate::ratio == ratio_of::sequence_to_reference;
  static_assert(!regresses || KL::place == kl_place::none,
                "infalign::policy_gradient: regression has the KL term in it: use no_kl");
  static_assert(
      !regresses || !requires(const Estimator& e) { e.smallest_group(); },
      "infalign::policy_gradient: regression takes no_baseline; to compare the responses to a prompt, use "
      "k1_in_reward, group_mean and reinforce");
  static_assert(!(KL::place == kl_place::reward_to_go && detail::of_whole_response<Surrogate>),
                "infalign::policy_gradient: k1_reward_to_go differs by token, and a sequence-level surrogate has one "
                "advantage a response: use k1_in_reward");

 public:
  /// Errors: the constructor checks the parameters of all parts.
  explicit policy_gradient(KL kl, Estimator estimator = {}, Surrogate objective = {}, Aggregation aggregate = {},
                           unscored on_unscored = unscored::error)
      : kl_(detail::checked(std::move(kl))),
        estimator_(detail::checked(std::move(estimator))),
        loss_(part_of_loss(kl_), std::move(objective), std::move(aggregate)),
        on_unscored_(on_unscored) {
    if constexpr (KL::place != kl_place::none) detail::check_positive(name, "a beta", kl_.beta);
  }

  /// The step of `rewards` or `prompt, rewards`; then, for a shard of a batch, a `reduction`.
  template <real_scalar S, class Mask, class... Args>
  requires detail::batch_arguments<Args...> step_result<S>
  operator()(const token_batch<S, Mask>& batch, const Args&... args) const {
    step_result<S> result;
    into(result, batch, args...);
    return result;
  }

  /// Writes to the caller's result: into(result, [space,] batch, [prompt,] rewards, [reduce]). Its gradient is resized
  /// to B × T.
  ///
  /// Cost: with a workspace, no allocation from the second call of a size on.
  /// Errors: if it throws, the result's contents are unspecified.
  template <real_scalar S, class... Args>
  void into(step_result<S>& result, Args&&... args) const {
    const auto run = [&](workspace* space, const auto& batch, const auto&... rest) {
      detail::with_batch(
          name,
          [&](const auto& batch_prompts, const auto& batch_rewards, const auto&... reduce) {
            compute(result, space, batch, batch_prompts, batch_rewards, reduce...);
          },
          rest...);
    };
    detail::as_shard<detail::credit_totals, step_averages>(
        name, [&](auto&... all) { detail::with_workspace(run, all...); }, args...);
  }

 private:
  static constexpr auto name = "policy_gradient";

  static loss_kl part_of_loss(const KL& kl) {
    if constexpr (detail::kl_in_loss<KL>) {
      detail::check_positive(name, "a beta", kl.beta);
      return kl;
    } else {
      return {};
    }
  }

  template <real_scalar S, class Mask, class Prompts, class R, reduction Reduce = whole_batch>
  void compute(step_result<S>& result, workspace* space, const token_batch<S, Mask>& batch, const Prompts& prompts,
               const R& rewards, const Reduce& reduce = {}) const {
    static_assert(std::same_as<typename R::Scalar, S>,
                  "infalign::policy_gradient: rewards and log-probabilities must have the same scalar type");
    static_assert(
        !std::same_as<Prompts, detail::row_prompts> || int(R::ColsAtCompileTime) != 1 ||
            !requires(const Estimator& e) { e.smallest_group(); },
        "infalign::policy_gradient: this estimator compares the responses to a prompt: pass rewards as a P x "
        "M matrix, or prompt indices before them");
    detail::take_step({name, on_unscored_}, reward_part(), estimator_, loss_.stage_, result, space, batch, prompts,
                      rewards, reduce);
  }

  reward_kl reward_part() const {
    if constexpr (detail::kl_in_loss<KL>)
      return {};
    else
      return kl_;
  }

  KL kl_;
  Estimator estimator_;
  policy_loss<loss_kl, Surrogate, Aggregation> loss_;
  unscored on_unscored_;
};

}  // namespace INFALIGN_NAMESPACE

#include <infalign/detail/end.hpp>
