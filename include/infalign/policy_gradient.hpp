// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/advantage.hpp>
#include <infalign/aggregation.hpp>
#include <infalign/kl.hpp>
#include <infalign/max_at_n.hpp>
#include <infalign/parallel.hpp>
#include <infalign/step_result.hpp>
#include <infalign/surrogate.hpp>
#include <infalign/token_block.hpp>
#include <infalign/workspace.hpp>

#include <algorithm>
#include <cmath>
#include <utility>

/// One step of KL-regularised policy gradient: from log-probabilities and (shaped) rewards to a loss and its gradient
/// by the log-probabilities.
namespace infalign {

/// A step that maximises J(θ) = E[R(y)] − β·KL(π_θ ‖ π_ref). The trainer back-propagates `gradient` through its own
/// log-probabilities:
///
///     policy_gradient step{k1_in_reward{.beta = 0.05}, leave_one_out{}, ppo_clip{}};
///     auto out = step(batch, rewards);           // rewards P × M, with B = P·M in row-major order
///     auto out = step(batch, prompt, rewards);   // a flat batch: response i answers prompt[i]
///     out.loss, out.gradient, out.metrics
///
/// Parts: the KL term, the baseline, the surrogate, the aggregation. With `no_kl`, `k1_in_reward`, `k1_reward_to_go` or
/// `k2_loss`, `no_baseline` or `leave_one_out`, `reinforce` (the default) and `sequence_mean_of_token_sums` (the
/// default) the mean of −gradient over batches sampled from π_θ is exactly ∇J.
///
/// Throws for shapes that do not fit, log-probabilities that are not finite where the mask is 1, a mask of other than 0
/// and 1, an infinite reward or advantage, and NaN unless it is carried; then such a response has gradient 0 and no
/// effect on the others. A response whose group is too small for the baseline has gradient 0, a KL in the reward
/// included; a KL loss it keeps. A response of no tokens has gradient 0, and counts.
template <kl_term KL, advantage_baseline Baseline, surrogate Surrogate = reinforce,
          aggregation Aggregation = sequence_mean_of_token_sums>
class policy_gradient {
  static constexpr bool by_sequence =
      Surrogate::ratio == ratio_of::sequence || Surrogate::ratio == ratio_of::sequence_geometric_mean;
  static constexpr bool sums = std::same_as<Aggregation, sequence_mean_of_token_sums>;
  static_assert(!by_sequence || sums,
                "infalign::policy_gradient: a sequence-level surrogate has one term a response, so it takes "
                "sequence_mean_of_token_sums");
  static_assert(KL::place != kl_place::sequence_loss || sums,
                "infalign::policy_gradient: a KL loss on the whole sequence takes sequence_mean_of_token_sums; a "
                "token-weighted mean weighs it unlike the reward");
  static_assert(!(by_sequence && KL::place == kl_place::reward_to_go),
                "infalign::policy_gradient: k1_reward_to_go differs by token, and a sequence-level surrogate has one "
                "advantage a response: use k1_in_reward");

 public:
  explicit policy_gradient(KL kl, Baseline baseline = {}, Surrogate objective = {}, Aggregation aggregate = {},
                           unscored policy = unscored::error)
      : kl_(kl),
        baseline_(std::move(baseline)),
        surrogate_(std::move(objective)),
        aggregation_(std::move(aggregate)),
        policy_(policy) {
    if constexpr (KL::place != kl_place::none) detail::check_positive("policy_gradient", "a beta", kl_.beta);
    detail::check_baseline(baseline_);
    if constexpr (requires { surrogate_.check(); }) surrogate_.check();
    if constexpr (requires { aggregation_.check(); }) aggregation_.check();
  }

  /// rewards: P × M, the responses to a prompt in a row, B = P·M; or B in a column for a baseline that needs no groups.
  template <real_scalar S, class Mask, array_expression R, reduction Reduce = whole_batch>
  step_result<S> operator()(const token_batch<S, Mask>& batch, const R& rewards, const Reduce& reduce = {}) const {
    step_result<S> result;
    take(result, nullptr, batch, rewards, reduce);
    return result;
  }

  /// prompt: B indices, equal for responses to one prompt; groups of any size, in any order. rewards: B.
  template <real_scalar S, class Mask, prompt_index I, vector_expression R, reduction Reduce = whole_batch>
  step_result<S> operator()(const token_batch<S, Mask>& batch, const I& prompt, const R& rewards,
                            const Reduce& reduce = {}) const {
    step_result<S> result;
    take(result, nullptr, batch, prompt, rewards, reduce);
    return result;
  }

  /// The same into the caller's result, whose gradient is made B × T: once that and the workspace are as large, nothing
  /// is allocated. When it throws, the result holds anything.
  template <real_scalar S, class Mask, array_expression R, reduction Reduce = whole_batch>
  void into(step_result<S>& result, workspace& space, const token_batch<S, Mask>& batch, const R& rewards,
            const Reduce& reduce = {}) const {
    take(result, &space, batch, rewards, reduce);
  }
  template <real_scalar S, class Mask, prompt_index I, vector_expression R, reduction Reduce = whole_batch>
  void into(step_result<S>& result, workspace& space, const token_batch<S, Mask>& batch, const I& prompt,
            const R& rewards, const Reduce& reduce = {}) const {
    take(result, &space, batch, prompt, rewards, reduce);
  }

 private:
  static constexpr auto name = "policy_gradient";
  static constexpr bool kl_through_baseline =
      (KL::place == kl_place::reward || KL::place == kl_place::reward_to_go) && detail::linear<Baseline>;
  static constexpr bool kl_after_baseline =
      (KL::place == kl_place::reward || KL::place == kl_place::reward_to_go) && !detail::linear<Baseline>;

  /// One response: its tokens that count, and over them log π_θ and the log-ratios of π_θ to π_ref, of π_θ to π_old, and
  /// of π_old to the sampler.
  struct sequence {
    double tokens = 0, log_probability = 0, delta = 0, log_ratio = 0, correction = 0;

    template <real_scalar S>
    void add(const detail::token_block<S>& block) {
      if constexpr (by_sequence)
        log_probability += static_cast<double>(Eigen::Map<const detail::token_values<S>>(block.log_probability).sum());
      delta += block.delta.sum;
      log_ratio += block.log_ratio.sum;
      correction += block.correction.sum;
    }
  };

  /// Whether a token's term depends on what its whole response sums to. If not, a batch is read once.
  static constexpr bool needs_sums = by_sequence || KL::place == kl_place::reward ||
                                     KL::place == kl_place::reward_to_go || KL::place == kl_place::sequence_loss;

  template <real_scalar S, class Mask, array_expression R, class Reduce>
  void take(step_result<S>& result, workspace* space, const token_batch<S, Mask>& batch, const R& rewards,
            const Reduce& reduce) const {
    static_assert(!vector_expression<R> || std::same_as<Baseline, no_baseline> || std::same_as<Baseline, batch_mean>,
                  "infalign::policy_gradient: this baseline compares the responses to a prompt: pass rewards as a P x "
                  "M matrix, or prompt indices before them");
    static_assert(std::same_as<typename R::Scalar, S>,
                  "infalign::policy_gradient: rewards and log-probabilities must have the same scalar type");
    detail::scratch<S> values(space, rewards.size());
    Eigen::Map<matrix<S>>(values.data(), rewards.rows(), rewards.cols()) = detail::as_array(rewards);
    run(result, space, batch, values.data(), groups::rows(rewards.rows(), rewards.cols(), space), reduce);
  }

  template <real_scalar S, class Mask, prompt_index I, vector_expression R, class Reduce>
  void take(step_result<S>& result, workspace* space, const token_batch<S, Mask>& batch, const I& prompt,
            const R& rewards, const Reduce& reduce) const {
    static_assert(std::same_as<typename R::Scalar, S>,
                  "infalign::policy_gradient: rewards and log-probabilities must have the same scalar type");
    detail::check_size("policy_gradient", "prompt indices, one for each reward", rewards.size(),
                       static_cast<Eigen::Index>(prompt.size()));
    detail::scratch<S> values(space, rewards.size());
    Eigen::Map<array<S>>(values.data(), rewards.size()) = detail::as_column(rewards);
    detail::scratch<Eigen::Index> memory(space, static_cast<Eigen::Index>(groups::memory_for(rewards.size())));
    run(result, space, batch, values.data(), groups::by(prompt, memory.data(), space), reduce);
  }

  template <real_scalar S, class Mask, class Reduce>
  void run(step_result<S>& result, workspace* space, const token_batch<S, Mask>& batch, const S* rewards,
           const groups& g, const Reduce& reduce) const {
    check(batch, g.size());
    detail::check_trainable(name, rewards, g.size(), g.columns(), policy_);
    const auto B = g.size();
    const detail::token_reader<S, Mask> reader(name, batch);
    const double work = static_cast<double>(B) * static_cast<double>(batch.log_probabilities.cols());

    // First pass: what each response sums to. An unscored one is not looked at.
    detail::scratch<sequence> sequences(space, B);
    detail::for_each_row(B, work, [&](Eigen::Index i) {
      if (detail::is_nan(rewards[i])) return;
      sequences[i].tokens = reader.tokens(i);
      if constexpr (needs_sums) reader.for_each_block(i, [&](const auto& block) { sequences[i].add(block); });
    });
    detail::scratch<S> advantages(space, B);
    Eigen::Array<double, 4, 1> sums_of_all = Eigen::Array<double, 4, 1>::Zero();
    for (Eigen::Index i = 0; i < B; ++i) {
      advantages[i] = rewards[i];
      if (detail::is_nan(rewards[i])) continue;
      if constexpr (kl_through_baseline)
        advantages[i] = static_cast<S>(static_cast<double>(rewards[i]) - kl_.beta * sequences[i].delta);
      sums_of_all += Eigen::Array<double, 4, 1>(1, sequences[i].tokens, static_cast<double>(rewards[i]),
                                                static_cast<double>(advantages[i]));
    }
    reduce(sums_of_all);
    const batch_size size{sums_of_all[0], sums_of_all[1]};
    const double mean_reward = size.sequences > 0 ? sums_of_all[2] / size.sequences : 0;
    detail::advantages(name, advantages.data(), advantages.data(), g, baseline_,
                       size.sequences > 0 ? sums_of_all[3] / size.sequences : 0, space);

    // What advantages spread around: their mean, where no baseline has made it small.
    const double centre =
        std::same_as<Baseline, no_baseline> && size.sequences > 0 ? sums_of_all[3] / size.sequences : 0;

    // A response that its baseline leaves out has advantage 0, KL and all: nothing is added to it.
    detail::scratch<S> compared(space, B);
    std::fill(compared.begin(), compared.end(), S{1});
    if constexpr (KL::place == kl_place::reward_to_go || kl_after_baseline)
      g.apply(rewards, compared.data(), S{0},
              [&](Eigen::Map<const array<S>> group, Eigen::Map<array<S>> out, Eigen::Index) {
                out.setConstant(group.size() >= detail::smallest_group(baseline_) ? 1 : 0);
              });

    // Second pass: the loss, its gradient, and what the metrics sum up, response by response and then over all.
    result.gradient.resize(B, batch.log_probabilities.cols());
    detail::scratch<detail::step_totals> of_response(space, B);
    detail::for_each_row(B, work, [&](Eigen::Index i) {
      if (sequences[i].tokens == 0) result.gradient.row(i).setZero();
      if (detail::is_nan(rewards[i])) return;
      if constexpr (kl_after_baseline)
        advantages[i] = static_cast<S>(static_cast<double>(advantages[i]) -
                                       static_cast<double>(compared[i]) * kl_.beta * sequences[i].delta);
      of_response[i] = respond(result, batch, reader, i, sequences[i], size, advantages[i], compared[i],
                               static_cast<double>(rewards[i]) - mean_reward, centre);
    });
    detail::step_totals total;
    for (const auto& t : of_response) total += t;
    g.for_each(rewards, [&](Eigen::Map<const array<S>> group, Eigen::Index) {
      total.groups += 1;
      total.equal_groups += (group == group[0]).all();
    });
    result.loss = total.loss;
    const bool has_reference = batch.reference_log_probabilities.given() || B == 0;
    result.metrics = total.metrics(size, mean_reward, centre, has_reference, reduce);
  }

  /// Response i, which is scored: its part of the loss, its row of the gradient, and what it adds to the metrics.
  template <real_scalar S, class Mask>
  detail::step_totals respond(step_result<S>& result, const token_batch<S, Mask>& batch,
                              const detail::token_reader<S, Mask>& reader, Eigen::Index i, sequence s,
                              const batch_size& size, S advantage, S compared, double deviation, double centre) const {
    const double A = static_cast<double>(advantage);
    detail::step_totals sum{
        .reward_squares = deviation * deviation, .advantage = A, .advantage_squares = (A - centre) * (A - centre)};
    if (s.tokens == 0) return sum;

    double loss = 0, slope = 0;  // of the whole response; the slope is that of each of its tokens
    if constexpr (by_sequence) {
      const double share = Surrogate::ratio == ratio_of::sequence_geometric_mean ? 1 / s.tokens : 1;
      const auto term = surrogate_(s.log_probability * share, s.log_ratio * share, A);
      const double correction = sampler_weight(batch, s.correction);
      loss += correction * term.loss;
      slope += correction * term.slope * share;
      sum.ratio = term.ratio;
      sum.ratios = 1;
      sum.clipped_low = term.clipped < 0;
      sum.clipped_high = term.clipped > 0;
    }
    if constexpr (KL::place == kl_place::sequence_loss) {
      const auto term = kl_.estimate(s.delta);
      const double importance = kl_.beta * detail::capped_exp(s.log_ratio).value * sampler_weight(batch, s.correction);
      loss += importance * term.value;
      slope += importance * term.slope;
    }
    const double weight = aggregation_.weight(s.tokens, size);
    S so_far = 0;  // Σ δ over the tokens before this one, where the response is compared with others
    reader.for_each_block(i, [&](const detail::token_block<S>& block) {
      if constexpr (!needs_sums) s.add(block);
      detail::block_terms<S> terms(block);
      const auto kl_loss = [&] {
        if constexpr (KL::place == kl_place::token_loss)
          return kl_;
        else
          return detail::nothing{};
      }();
      if constexpr (by_sequence) {
        if constexpr (KL::place == kl_place::token_loss)
          terms.add(batch, detail::nothing{}, S{0}, kl_loss);
        else
          terms.slopes.setZero();
      } else if constexpr (KL::place == kl_place::reward_to_go) {
        detail::token_values<S> credit = detail::token_values<S>::Constant(advantage);
        for (Eigen::Index j = 0; j < block.size; ++j) {
          credit[j] += static_cast<S>(kl_.beta) * so_far;
          so_far += compared * block.delta.values[j];
        }
        terms.add(batch, surrogate_, credit, kl_loss);
      } else {
        terms.add(batch, surrogate_, advantage, kl_loss);
      }
      loss += terms.loss;
      if constexpr (!by_sequence) {
        sum.ratio += terms.ratio;
        sum.ratios += block.tokens;
        sum.clipped_low += terms.clipped_low;
        sum.clipped_high += terms.clipped_high;
      }
      terms.write(&result.gradient(i, block.first), static_cast<S>(slope), static_cast<S>(weight));
    });
    sum.delta = s.delta;
    sum.log_ratio = s.log_ratio;
    sum.loss = weight * loss;
    return sum;
  }

  /// min(π_old/π_sampler, cap), held constant; 1 where there is no sampler.
  template <real_scalar S, class Mask, real_scalar X>
  static X sampler_weight(const token_batch<S, Mask>& batch, X correction) {
    if (!batch.sampler_log_probabilities.given()) return 1;
    return std::min(detail::capped_exp(correction).value, static_cast<X>(batch.sampler_weight_cap));
  }

  template <real_scalar S, class Mask>
  static void check(const token_batch<S, Mask>& batch, Eigen::Index rewards) {
    const auto& now = batch.log_probabilities;
    if (now.rows() != rewards)
      detail::fail(name, detail::text(now.rows(), " rewards, one for each row of log_probabilities"),
                   detail::text(rewards));
    if (rewards == 0) return;
    const auto shape = [](const auto& view) { return detail::text(view.rows(), " x ", view.cols()); };
    const auto same_shape = [&](const char* what, const auto& view) {
      if (view.given() && (view.rows() != now.rows() || view.cols() != now.cols()))
        detail::fail(name, detail::text(what, " of ", shape(now)), shape(view));
    };
    same_shape("reference_log_probabilities", batch.reference_log_probabilities);
    same_shape("mask", batch.mask);
    same_shape("behavior_log_probabilities", batch.behavior_log_probabilities);
    same_shape("sampler_log_probabilities", batch.sampler_log_probabilities);
    if (KL::place != kl_place::none && !batch.reference_log_probabilities.given())
      detail::fail(name, "reference_log_probabilities for the KL term", "none");
    if (Surrogate::ratio == ratio_of::nothing && batch.behavior_log_probabilities.given())
      detail::fail(name, "no behavior_log_probabilities with reinforce, which is on-policy",
                   "some: use sequence_clip, ppo_clip or cispo");
    detail::check_positive(name, "a sampler_weight_cap", batch.sampler_weight_cap);
  }

  KL kl_;
  Baseline baseline_;
  Surrogate surrogate_;
  Aggregation aggregation_;
  unscored policy_;
};

}  // namespace infalign
