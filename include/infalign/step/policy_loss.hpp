// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/detail/credit.hpp>
#include <infalign/detail/dispatch.hpp>
#include <infalign/detail/parallel.hpp>
#include <infalign/detail/scratch.hpp>
#include <infalign/detail/unit_terms.hpp>
#include <infalign/step/advantage.hpp>
#include <infalign/step/aggregation.hpp>
#include <infalign/step/step_result.hpp>
#include <infalign/workspace.hpp>

#include <algorithm>
#include <utility>

#include <infalign/detail/begin.hpp>

/// \file
/// The loss of a batch whose advantages are known, and its gradient by the log-probabilities.
namespace INFALIGN_NAMESPACE {

namespace detail {

/// Stages 3 and 4 of the step: the terms of each response, weighted and summed. The parts are checked.
template <kl_term KL, surrogate Surrogate, aggregation Aggregation>
class loss_stage {
  static constexpr bool of_response = of_whole_response<Surrogate>,
                        to_reference = Surrogate::ratio == ratio_of::sequence_to_reference;

 public:
  explicit loss_stage(KL kl, Surrogate objective, Aggregation aggregate)
      : kl_(std::move(kl)), surrogate_(std::move(objective)), aggregation_(std::move(aggregate)) {}

  /// Writes the loss, its gradient and its metrics. `centre`: a number near the mean of the advantages. `all_sums`: those
  /// over each response, or null. They are read if `known`, else written.
  template <real_scalar S, class Mask, class Credit>
  void run(const char* function, step_result<S>& result, workspace* space, const token_batch<S, Mask>& batch,
           const batch_size& size, const Credit& credit, double centre, response_sums* all_sums, bool known) const {
    if ((KL::place != kl_place::none || to_reference) && batch.log_probabilities.rows() > 0 &&
        !batch.reference_log_probabilities.given())
      fail(function, concat("reference_log_probabilities for the ", to_reference ? "regression" : "KL term"), "none");
    if (Surrogate::ratio == ratio_of::nothing && batch.old_log_probabilities.given())
      fail(function, "no old_log_probabilities with reinforce, which is on-policy",
           "some: use sequence_clip, ppo_clip or cispo");
    const token_reader<S, Mask> reader(function, batch);
    const auto B = batch.log_probabilities.rows(), T = batch.log_probabilities.cols();
    check_logarithms(function, batch);
    check_result(function, result.gradient, batch);
    result.gradient.resize(B, T);
    scratch<part> parts(space, B);
    for_each_row(B, static_cast<double>(B) * static_cast<double>(T), [&](Eigen::Index i) {
      if (is_nan(credit.of_response(i)))
        std::fill_n(result.gradient.data() + i * T, T, S{0});
      else
        parts[i] = respond(function, result.gradient, batch, reader, i, size, credit, centre, all_sums, known);
    });
    part total;
    for (const auto& p : parts) total.loss += p.loss, total.metrics += p.metrics;
    result.loss = total.loss;
    result.metrics = total.metrics;
  }

 private:
  struct part {
    double loss = 0;
    step_metrics metrics;

    /// Adds the ratios of n units.
    void add_ratios(const auto& terms, double n) {
      metrics.ratio.add(terms.ratio, n);
      metrics.clip_ratio_low.add(terms.clipped_low, n);
      metrics.clip_ratio_high.add(terms.clipped_high, n);
      metrics.clip_ratio.add(terms.clipped_low + terms.clipped_high, n);
    }
  };

  /// Response i: its part of the loss and of the metrics, and its row of the gradient.
  template <real_scalar S, class Mask, class Credit>
  part respond(const char* function, matrix<S>& gradient, const token_batch<S, Mask>& batch,
               const token_reader<S, Mask>& reader, Eigen::Index i, const batch_size& size, const Credit& credit,
               double centre, response_sums* all_sums, bool known) const {
    const term_weights weights = weights_of(batch);
    const double advantage = static_cast<double>(credit.of_response(i)), tokens = reader.tokens(i);
    part result;
    response_sums sums;
    // One slope for all tokens: the loss needs the response's log-probability only.
    constexpr bool linear =
        std::same_as<Surrogate, reinforce> && KL::place == kl_place::none && std::same_as<Credit, response_credit<S>>;
    if (linear && !weights.sampled && tokens > 0) {
      sums = known ? all_sums[i] : reader.sums(i);
      const double weight = weight_of(tokens, size);
      result.loss = -advantage * sums.log_probability * weight;
      result.add_ratios(unclipped{tokens}, tokens);
      const S slope = static_cast<S>(weight) * -static_cast<S>(advantage);
      reader.fill_unmasked(i, slope, gradient.data() + i * gradient.cols());
      if (!is_finite(slope) || !is_finite(result.loss)) check_response(function, gradient, result.loss, i);
    } else if (tokens == 0) {
      std::fill_n(gradient.data() + i * gradient.cols(), gradient.cols(), S{0});
    } else {
      double slope = 0;  // of the terms of the whole response, by each of its log-probabilities
      constexpr bool whole_terms = of_response || KL::place == kl_place::sequence_loss;
      const bool one_weight = weights.sampled && weights.of_sequence;
      S importance = 1;  // of all token terms
      if (whole_terms || one_weight) {
        const auto whole = reader.sums(i);
        if constexpr (whole_terms) slope = add_whole_terms(result, weights, whole, advantage);
        if (one_weight)
          importance = static_cast<S>(sampler_weight(probability_ratio<double>(whole.to_sampler).value, weights.floor,
                                                     weights.cap, weights.masks ? 1.0 : 0.0));
      }
      term_weights token_weights = weights;
      token_weights.sampled = weights.sampled && !one_weight;
      const double weight = weight_of(tokens, size);
      auto credit_of = credit.of_blocks(i);
      bool finite = true;
      reader.for_each_block(i, [&](const token_block<S>& block) {
        sums.add(block);
        unit_terms<S, 64> terms(block);
        const auto credit_of_block = credit_of(block);
        at_full_width([&](auto) {
          if constexpr (!of_response)
            terms.compute(token_weights, surrogate_, credit_of_block, token_kl());
          else if constexpr (KL::place == kl_place::token_loss)
            terms.compute(token_weights, no_term{}, S{0}, token_kl());
          else
            terms.no_terms();
          if (one_weight) terms.scale(importance);
          finite &=
              write(&gradient(i, block.first), block, terms.slopes, static_cast<S>(slope), static_cast<S>(weight));
        });
        result.loss += terms.loss;
        if constexpr (!of_response) result.add_ratios(terms, block.active);
      });
      result.loss *= weight;
      if (!finite || !is_finite(result.loss)) check_response(function, gradient, result.loss, i);
    }

    if (all_sums && !known) all_sums[i] = sums;
    step_metrics& metrics = result.metrics;
    metrics.sequences = 1;
    metrics.tokens = tokens;
    metrics.advantage_mean.add(advantage);
    metrics.advantage_std.add(advantage - centre);
    const double delta = batch.reference_log_probabilities.given() ? sums.to_reference : nan<double>;
    metrics.kl.add(delta);
    metrics.kl_per_token.add(delta, tokens);
    metrics.approx_kl.add(-sums.to_old, tokens);
    if (batch.reference_log_probabilities.given()) metrics.kl_max.add(delta);
    metrics.tokens_max.add(tokens);
    metrics.tokens_min.add(tokens);
    return result;
  }

  /// The weight of a token's terms.
  double weight_of(double tokens, const batch_size& size) const {
    const double weight = aggregation_.weight(tokens, size);
    if (!is_finite(weight))
      fail("policy_loss", "a batch_size with responses and tokens", "a weight that is not finite");
    return weight;
  }

  /// Adds the terms of a whole response. Returns their slope by each of its log-probabilities.
  double add_whole_terms(part& result, const term_weights& weights, const response_sums& sums, double advantage) const {
    double slope = 0;
    const auto add = [&](double share, const auto& f, const auto& kl) {
      whole_response whole(sums, share);
      term_weights whole_weights = weights;
      if (to_reference) whole.scaled = sums.to_reference, whole_weights.off_policy = false;
      unit_terms<double, 1> terms(whole);
      terms.compute(whole_weights, f, advantage, kl);
      result.loss += terms.loss;
      slope += terms.slopes[0] * share;
      if constexpr (std::same_as<decltype(f), const Surrogate&>) result.add_ratios(terms, 1);
    };
    if constexpr (of_response)
      add(Surrogate::ratio == ratio_of::sequence_geometric_mean ? 1 / sums.tokens : 1, surrogate_, no_term{});
    if constexpr (KL::place == kl_place::sequence_loss) add(1, no_term{}, kl_);
    return slope;
  }

  /// The KL loss of tokens, if there is one.
  decltype(auto) token_kl() const {
    if constexpr (KL::place == kl_place::token_loss)
      return (kl_);
    else
      return no_term{};
  }

  /// d loss / d log π_θ of a block's tokens: weight·(their own slope + that of the response), 0 at masked tokens. False if
  /// their sum is not finite.
  template <real_scalar S>
  static bool write(S* gradient, const token_block<S>& block, const typename units<S, 64>::values& slopes,
                    S slope_of_response, S weight) {
    typename units<S, 64>::values whole, unmasked;
    S* const all = block.active == 64 ? gradient : whole.data();
    scale(slopes.data(), slope_of_response, weight, all);
    if (block.active == 64) return is_finite(sum_of<64>(all));
    keep_unmasked<64>(all, block.mask.data(), unmasked.data());
    std::copy_n(unmasked.data(), block.size, gradient);
    return is_finite(sum_of<64>(unmasked.data()));
  }
  template <real_scalar S>
  static void scale(const S* __restrict slopes, S slope_of_response, S weight, S* __restrict result) {
    for (int j = 0; j < 64; ++j) result[j] = weight * (slopes[j] + slope_of_response);
  }

  [[no_unique_address]] KL kl_;
  [[no_unique_address]] Surrogate surrogate_;
  [[no_unique_address]] Aggregation aggregation_;
};

/// Throws unless there is an advantage for each response, or for each token.
template <real_scalar S, class Mask, array_expression A>
void check_advantages(const token_batch<S, Mask>& batch, const A& advantages) {
  if constexpr (vector_expression<A>) {
    check_batch("policy_loss", batch, "advantages", advantages.size());
  } else {
    check_batch("policy_loss", batch, "rows of advantages", advantages.rows());
    const auto T = batch.log_probabilities.cols();
    if (advantages.cols() != T)
      fail("policy_loss", concat("advantages of ", advantages.rows(), " x ", T),
           concat(advantages.rows(), " x ", advantages.cols()));
  }
}

/// The size of a batch that is whole.
template <real_scalar S, class Mask, array_expression A>
batch_size size_of_whole(const token_batch<S, Mask>& batch, const A& advantages, unscored on_unscored) {
  check_advantages(batch, advantages);
  return on_unscored == unscored::propagate ? batch_size_of(batch, advantages) : batch_size_of(batch);
}

/// The loss of advantages. `stage`: a `loss_stage`, or another type with its `run`.
template <class Stage, real_scalar S, class Mask, array_expression A>
void loss_of_advantages(const Stage& stage, unscored on_unscored, step_result<S>& result, workspace* space,
                        const token_batch<S, Mask>& batch, const A& advantages, const batch_size& size) {
  check_advantages(batch, advantages);
  const auto B = batch.log_probabilities.rows();
  const auto run = [&](const auto& credit) {
    stage.run("policy_loss", result, space, batch, size, credit, 0.0, nullptr, false);
  };
  if constexpr (vector_expression<A>) {
    scratch<S> values(space, B);
    Eigen::Map<array<S>>(values.data(), B) = as_column(advantages);
    for (Eigen::Index i = 0; i < B; ++i)
      if (!is_finite(values[i]) && !(on_unscored == unscored::propagate && is_nan(values[i])))
        fail("policy_loss", "finite advantages", concat(values[i], position(i)));
    run(response_credit<S>{values.data()});
  } else {
    const Eigen::Ref<const matrix<S>, 0, Eigen::OuterStride<>> values(as_array(advantages));
    run(token_credit<S>{{values.data(), values.rows(), values.cols(), values.outerStride()}, on_unscored});
  }
}

}  // namespace detail

/// The loss of a batch, or of a micro-batch of a larger one, from its advantages.
///
///     policy_loss loss{k3_token_loss{.beta = 0.05}, ppo_clip{}, token_mean{}};
///     auto out = loss(micro_batch, advantages, batch_size{.sequences = 512, .tokens = 90'000});   // of the whole batch
///     out.loss, out.gradient, out.metrics
///
/// The losses and metrics of micro-batches add up to those of the whole batch; their gradients are its rows. The
/// metrics of rewards stay 0, and those of prompts NaN or 0, because only `policy_gradient` knows rewards and prompts.
///
/// The KL term is a loss, or none: a KL in the reward is part of the advantages (`policy_advantages`).
///
/// Shapes: log_probabilities B × T; advantages B in a row or a column, or B × T for one advantage for each token, with
/// which the metrics of advantages are 0. The gradient is B × T.
/// NaN: an error; with `unscored::propagate` a response whose advantages are all NaN has gradient 0 and is not counted.
/// Errors: if shapes differ, an unmasked log-probability or an advantage is not finite, a mask is not 0 or 1, or the loss
/// or its gradient is not finite.
template <kl_term KL = no_kl, surrogate Surrogate = reinforce, aggregation Aggregation = sequence_mean_of_token_sums>
class policy_loss {
  static constexpr bool of_response = detail::of_whole_response<Surrogate>,
                        to_reference = Surrogate::ratio == ratio_of::sequence_to_reference;
  static constexpr bool sums_tokens = std::same_as<Aggregation, sequence_mean_of_token_sums>;
  static_assert(
      !detail::kl_in_reward<KL>,
      "infalign::policy_loss: a KL in the reward is part of the advantages: use policy_advantages, and no_kl here");
  static_assert(!of_response || sums_tokens,
                "infalign::policy_loss: a sequence-level surrogate has one term a response, so it takes "
                "sequence_mean_of_token_sums");
  static_assert(KL::place == kl_place::none || !to_reference,
                "infalign::policy_loss: regression has the KL term in it: use no_kl");
  static_assert(KL::place != kl_place::sequence_loss || sums_tokens,
                "infalign::policy_loss: a KL loss on the whole sequence takes sequence_mean_of_token_sums; a "
                "token-weighted mean weighs it unlike the reward");

 public:
  /// Errors: the constructor checks the parameters of all parts.
  explicit policy_loss(KL kl = {}, Surrogate objective = {}, Aggregation aggregate = {},
                       unscored on_unscored = unscored::error)
      : stage_(checked_beta(detail::checked(std::move(kl))), detail::checked(std::move(objective)),
               detail::checked(std::move(aggregate))),
        on_unscored_(on_unscored) {}

  /// The loss of a batch. `size`: of the whole batch that this one is a part of.
  template <real_scalar S, class Mask, array_expression A>
  step_result<S> operator()(const token_batch<S, Mask>& batch, const A& advantages, const batch_size& size) const {
    step_result<S> result;
    into(result, batch, advantages, size);
    return result;
  }

  /// The loss of a batch that is whole.
  template <real_scalar S, class Mask, array_expression A>
  step_result<S> operator()(const token_batch<S, Mask>& batch, const A& advantages) const {
    return (*this)(batch, advantages, detail::size_of_whole(batch, advantages, on_unscored_));
  }

  /// Writes to the caller's result: into(result, [space,] batch, advantages, size).
  ///
  /// Cost: with a workspace and a result of that size, no allocation.
  /// Errors: if it throws, the result's contents are unspecified.
  template <real_scalar S, class... Args>
  void into(step_result<S>& result, Args&&... args) const {
    const auto run = [&]<class A>(workspace* space, const auto& batch, const A& advantages, const batch_size& size) {
      static_assert(std::same_as<typename A::Scalar, S>,
                    "infalign::policy_loss: advantages and log-probabilities must have the same scalar type");
      static_assert(!of_response || vector_expression<A>,
                    "infalign::policy_loss: a sequence-level surrogate has one advantage a response");
      detail::loss_of_advantages(stage_, on_unscored_, result, space, batch, advantages, size);
    };
    detail::with_workspace(run, args...);
  }

 private:
  template <kl_term, advantage_estimator, surrogate, aggregation>
  friend class policy_gradient;

  static KL checked_beta(KL kl) {
    if constexpr (KL::place != kl_place::none) detail::check_positive("policy_loss", "a beta", kl.beta);
    return kl;
  }

  detail::loss_stage<KL, Surrogate, Aggregation> stage_;
  unscored on_unscored_;
};

}  // namespace INFALIGN_NAMESPACE

#include <infalign/detail/end.hpp>
