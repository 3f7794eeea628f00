// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/detail/shards.hpp>
#include <infalign/step/advantage.hpp>
#include <infalign/step/kl.hpp>
#include <infalign/step/policy_loss.hpp>

#include <algorithm>
#include <utility>

#include <infalign/detail/begin.hpp>

/// \file
/// The advantages of a batch of responses: rewards, less a KL in the reward, compared within their groups.
namespace INFALIGN_NAMESPACE {

namespace detail {

/// The advantages of reward-to-go, token by token: A_i + β·Σ_{s < t} δ_s, because a token is not charged for the KL of
/// earlier ones.
template <real_scalar S>
struct to_go_credit {
  const S* advantages;
  const S* compared;  ///< 1 if the group is large enough for the estimator, else 0
  double beta;

  S of_response(Eigen::Index i) const { return advantages[i]; }
  auto of_blocks(Eigen::Index i) const {
    return [advantage = static_cast<double>(advantages[i]), scale = beta * static_cast<double>(compared[i]),
            before = 0.0](const token_block<S>& block) mutable {
      typename units<S, 64>::values credit;
      for (int j = 0; j < 64; ++j) {
        credit[j] = static_cast<S>(advantage + scale * before);
        before += static_cast<double>(block.to_reference[j]);
      }
      return credit;
    };
  }
};

/// A reward or an advantage less the KL term of response i.
template <real_scalar S, class Prompts>
S less_kl(const char* function, const Prompts& prompts, Eigen::Index i, S value, double beta,
          const response_sums& sums) {
  const S result = static_cast<S>(static_cast<double>(value) - beta * sums.to_reference);
  if (!is_finite(result))
    fail(function, concat("a KL term that a ", name_of<S>, " can hold"),
         concat(beta, " times ", sums.to_reference, prompts.position(i)));
  return result;
}

/// What stage 2 finds out about a batch, besides its advantages.
struct credit_summary {
  batch_size size;         ///< of all shards
  double mean_reward = 0;  ///< of all shards
  double centre = 0;       ///< a number near the mean of the advantages
};

/// Stage 2 of the step. Writes the advantages of responses, NaN for an unscored one; for `to_go_credit` 1 or 0 to
/// `compared`; and what it read of each scored response to `sums`: all of it with a KL in the reward, else its number of
/// tokens. `reduce`: a `shard`, or `whole_batch`.
template <kl_term KL, advantage_estimator E, real_scalar S, class Mask, class Prompts, class Reduce>
credit_summary assign_credit(const caller& call, const KL& kl, const E& estimator, const token_batch<S, Mask>& batch,
                             const Prompts& prompts, const groups& g, const S* rewards, S* advantages, S* compared,
                             response_sums* sums, workspace* space, const Reduce& reduce) {
  const auto B = prompts.size();
  check_batch(call.function, batch, "rewards", B);
  check_trainable<S>(call, prompts, rewards);
  if (kl_in_reward<KL> && B > 0 && !batch.reference_log_probabilities.given())
    fail(call.function, "reference_log_probabilities for the KL term", "none");

  // The KL and the number of tokens of each scored response.
  const token_reader<S, Mask> reader(call.function, batch);
  for_each_row(B, static_cast<double>(batch.log_probabilities.cols()) * static_cast<double>(B), [&](Eigen::Index i) {
    if (is_nan(rewards[i])) return;
    if constexpr (kl_in_reward<KL>)
      sums[i] = reader.sums(i);
    else
      sums[i].tokens = reader.tokens(i);
  });

  // Means over all shards. A linear estimator gets the rewards less their KL.
  constexpr bool kl_first = kl_in_reward<KL> && is_linear<E>, kl_last = kl_in_reward<KL> && !is_linear<E>;
  credit_totals totals;
  for (Eigen::Index i = 0; i < B; ++i) {
    advantages[i] = rewards[i];
    if (is_nan(rewards[i])) continue;
    if constexpr (kl_first) advantages[i] = less_kl(call.function, prompts, i, rewards[i], kl.beta, sums[i]);
    totals.sequences += 1;
    totals.tokens += sums[i].tokens;
    totals.reward.add(static_cast<double>(rewards[i]));
    totals.less_kl.add(static_cast<double>(advantages[i]));
  }
  if constexpr (!std::same_as<Reduce, whole_batch>) reduce.sum(totals);
  double squares = 0;
  if constexpr (needs_moments<E>) {
    squares = scored_squares(advantages, B, totals.less_kl);
    if constexpr (!std::same_as<Reduce, whole_batch>)
      reduce(Eigen::Ref<array<double>>(Eigen::Map<array<double>>(&squares, 1)), reduce_op::sum);
  }
  estimate_advantages(call.function, advantages, g, estimator,
                      {totals.less_kl, deviation(squares, totals.less_kl.weight)}, space);

  // A response of a group that is too small keeps advantage 0: no KL is subtracted.
  std::fill(compared, compared + B, S{1});
  if constexpr (kl_last || KL::place == kl_place::reward_to_go)
    g.apply(rewards, compared, S{0}, [&](const auto& group, auto&& out, Eigen::Index) {
      std::fill_n(out.data(), out.size(), group.size() >= smallest_group(estimator) ? S{1} : S{0});
    });
  for (Eigen::Index i = 0; i < B; ++i) {
    if constexpr (kl_last)
      if (compared[i] > 0) advantages[i] = less_kl(call.function, prompts, i, advantages[i], kl.beta, sums[i]);
    if (is_nan(rewards[i])) advantages[i] = nan<S>;
  }
  return {
      {totals.sequences, totals.tokens}, totals.reward, std::same_as<E, no_baseline> ? double{totals.less_kl} : 0.0};
}

}  // namespace detail

/// Advantages of the responses to each prompt, with a KL term in the reward if there is one: the first half of a step.
///
///     policy_advantages credit{k1_in_reward{.beta = 0.05}, leave_one_out{}};
///     auto a = credit(batch, rewards);            // rewards P × M, B = P·M: B advantages
///     auto a = credit(batch, prompt, rewards);    // a flat batch
///
/// `policy_loss` takes them, for the whole batch or for parts of it.
///
/// Shapes: returns B advantages, or B × T with `k1_reward_to_go` (0 at masked tokens).
/// NaN: an error; with `unscored::propagate` the advantage is NaN.
/// Errors: as `policy_gradient`.
template <kl_term KL, advantage_estimator Estimator>
class policy_advantages {
  static_assert(!detail::kl_in_loss<KL>,
                "infalign::policy_advantages: a KL loss is part of policy_loss: use no_kl here");

 public:
  /// Errors: the constructor checks the parameters.
  explicit policy_advantages(KL kl, Estimator estimator = {}, unscored on_unscored = unscored::error)
      : kl_(detail::checked(std::move(kl))),
        estimator_(detail::checked(std::move(estimator))),
        on_unscored_(on_unscored) {
    if constexpr (KL::place != kl_place::none) detail::check_positive("policy_advantages", "a beta", kl_.beta);
  }

  /// The advantages of `rewards` or `prompt, rewards`; then, for a shard, a `reduction`.
  template <real_scalar S, class Mask, class... Args>
  requires detail::batch_arguments<Args...>
  auto operator()(const token_batch<S, Mask>& batch, const Args&... args) const {
    return detail::as_shard<detail::credit_totals, detail::no_totals>(
        name,
        [&](const auto&... all) {
          return detail::with_batch(
              name,
              [&](const auto& batch_prompts, const auto& batch_rewards, const auto&... reduce) {
                return compute(batch, batch_prompts, batch_rewards, reduce...);
              },
              all...);
        },
        args...);
  }

 private:
  static constexpr auto name = "policy_advantages";

  template <real_scalar S, class Mask, class Prompts, class R, reduction Reduce = whole_batch>
  auto compute(const token_batch<S, Mask>& batch, const Prompts& prompts, const R& rewards,
               const Reduce& reduce = {}) const {
    const auto B = prompts.size();
    array<S> values(B), advantages(B), compared(B);
    detail::scratch<detail::response_sums> sums(nullptr, B);
    detail::copy_rewards(rewards, detail::packed_rows(values.data(), prompts));
    detail::assign_credit({name, on_unscored_}, kl_, estimator_, batch, prompts, detail::groups(prompts, nullptr),
                          values.data(), advantages.data(), compared.data(), sums.data(), nullptr, reduce);
    const auto end = [&] {
      detail::no_totals none;
      if constexpr (!std::same_as<Reduce, whole_batch>) reduce.sum(none);
    };
    if constexpr (KL::place != kl_place::reward_to_go) {
      end();
      return advantages;
    } else {
      matrix<S> of_tokens = matrix<S>::Constant(B, batch.log_probabilities.cols(), detail::nan<S>);
      const detail::to_go_credit<S> credit{advantages.data(), compared.data(), kl_.beta};
      const detail::token_reader<S, Mask> reader(name, batch);
      for (Eigen::Index i = 0; i < B; ++i) {
        if (detail::is_nan(advantages[i])) continue;
        auto of_blocks = credit.of_blocks(i);
        reader.for_each_block(i, [&](const auto& block) {
          auto credited = of_tokens.row(i).segment(block.first, block.size);
          credited = (of_blocks(block) * block.mask).head(block.size);
          for (Eigen::Index j = 0; j < block.size; ++j)
            if (!detail::is_finite(credited[j]))
              detail::fail(name, "finite advantages",
                           detail::concat(credited[j], detail::position(i, block.first + j)));
        });
      }
      end();
      return of_tokens;
    }
  }

  [[no_unique_address]] KL kl_;
  [[no_unique_address]] Estimator estimator_;
  unscored on_unscored_;
};

}  // namespace INFALIGN_NAMESPACE

#include <infalign/detail/end.hpp>
