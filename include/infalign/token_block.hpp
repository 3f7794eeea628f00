// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/surrogate.hpp>
#include <infalign/token_batch.hpp>

#include <algorithm>

/// How the step reads a batch: 64 tokens of a response at a time, so that the compiler's and Eigen's vector
/// instructions can work on them, and what follows from them stays in the cache.
namespace infalign::detail {

/// One number for each token of a block.
template <real_scalar S>
using token_values = Eigen::Array<S, 64, 1>;

/// e^x and its derivative, as `capped_exp`.
template <real_scalar S>
struct exponentials {
  token_values<S> value, slope;

  explicit exponentials(const token_values<S>& x) {
    slope = x.min(S{20}).exp();
    value = slope * (1 + (x - S{20}).max(S{0}));
  }
};

/// The KL estimate of each token of a block, and its derivative.
template <real_scalar S>
struct estimates {
  token_values<S> value, slope;
};

/// k2, as for one token.
template <real_scalar S>
estimates<S> k2(const token_values<S>& delta) {
  return {delta.square() / 2, delta};
}

/// k3, as for one token: by the exponential, and where that would cancel by the series.
template <real_scalar S>
estimates<S> k3(const token_values<S>& delta) {
  const exponentials<S> e(-delta);
  estimates<S> result{e.value - 1 + delta, 1 - e.slope};
  token_values<S> ratio = token_values<S>::Ones();  // (e^{−δ} − 1 + δ)/(δ²/2)
  for (int k = sizeof(S) == 4 ? 7 : 12; k > 2; --k) ratio = 1 - delta * (S{1} / static_cast<S>(k)) * ratio;
  const token_values<S> value = delta.square() / 2 * ratio, slope = delta * (1 - delta / 2 * ratio);
  for (Eigen::Index j = 0; j < 64; ++j) {
    const bool small = std::abs(delta[j]) <= S{0.25};
    result.value[j] = small ? value[j] : result.value[j];
    result.slope[j] = small ? slope[j] : result.slope[j];
  }
  return result;
}

/// The estimate of a KL loss for each token.
template <kl_term KL, real_scalar S>
estimates<S> estimate_each(const KL& kl, const token_values<S>& delta) {
  if constexpr (std::same_as<KL, k2_token_loss>) return k2(delta);
  if constexpr (std::same_as<KL, k3_token_loss>) return k3(delta);
  estimates<S> result;
  for (Eigen::Index j = 0; j < 64; ++j) {
    const auto [value, slope] = kl.estimate(delta[j]);
    result.value[j] = value;
    result.slope[j] = slope;
  }
  return result;
}

/// Up to 64 tokens of a response that follow each other, from `first` on. Where one does not count, or there is none,
/// all its numbers are 0.
template <real_scalar S>
struct token_block {
  Eigen::Index first, size;
  /// How many count.
  double tokens;
  /// 1 where a token counts, else 0.
  token_values<S> counts;
  /// log π_θ, and the log-ratios of π_θ to π_ref, of π_θ to π_old, and of π_old to the sampler; 0 where the batch has
  /// none.
  token_values<S> log_probability, delta, log_ratio, correction;
};

template <real_scalar S, class Mask>
class token_reader {
 public:
  token_reader(const char* function, const token_batch<S, Mask>& batch) : function_(function), batch_(batch) {}

  /// How many tokens of response i count.
  double tokens(Eigen::Index i) const {
    const auto T = batch_.log_probabilities.cols();
    if (!batch_.mask.given()) return static_cast<double>(T);
    const Mask* const mask = batch_.mask.row(i);
    Eigen::Index sum = 0;
    for (Eigen::Index t = 0; t < T; ++t) sum += mask[t] != Mask(0);
    return static_cast<double>(sum);
  }

  /// Calls f(block) for the blocks of response i that have a token that counts. Throws for a mask of other than 0 and
  /// 1, and for a log-probability that is not finite where it is 1.
  template <class F>
  void for_each_block(Eigen::Index i, const F& f) const {
    const auto T = batch_.log_probabilities.cols();
    token_block<S> block;
    for (block.first = 0; block.first < T; block.first += block.counts.size()) {
      block.size = std::min(T - block.first, block.counts.size());
      read_mask(i, block);
      read_values(i, block);
      f(block);
    }
  }

 private:
  void read_mask(Eigen::Index i, token_block<S>& b) const {
    const bool whole = b.size == b.counts.size();
    if (!whole) b.counts.setZero();
    if (!batch_.mask.given()) {
      b.counts.head(b.size).setOnes();
      b.tokens = static_cast<double>(b.size);
      return;
    }
    const Mask* const mask = batch_.mask.row(i) + b.first;
    if (whole)
      b.counts = Eigen::Map<const Eigen::Array<Mask, 64, 1>>(mask).template cast<S>();
    else
      for (Eigen::Index j = 0; j < b.size; ++j) b.counts[j] = static_cast<S>(mask[j]);
    const S off = (b.counts * (1 - b.counts)).abs().sum();
    if (!is_finite(off) || off != 0 || (real_scalar<Mask> && !std::same_as<Mask, S>))
      for (Eigen::Index j = 0; j < b.size; ++j)
        if (!is_zero_or_one(mask[j]))
          fail(function_, "a mask of 0 and 1", text(static_cast<double>(mask[j]), at(i, b.first + j)));
    b.tokens = static_cast<double>(b.counts.sum());
  }

  /// In the mask's own type, and for NaN by its bits, because of -ffast-math.
  static bool is_zero_or_one(Mask m) {
    if constexpr (real_scalar<Mask>)
      if (!is_finite(m)) return false;
    return m == Mask(0) || m == Mask(1);
  }

  void read_values(Eigen::Index i, token_block<S>& b) const {
    token_values<S> reference, behavior, sampler;
    read(batch_.log_probabilities, i, b, b.log_probability);
    read(batch_.reference_log_probabilities, i, b, reference);
    read(batch_.behavior_log_probabilities, i, b, behavior);
    read(batch_.sampler_log_probabilities, i, b, sampler);
    b.delta.setZero();
    b.log_ratio.setZero();
    b.correction.setZero();
    token_values<S> sum = b.log_probability;
    const bool off_policy = batch_.behavior_log_probabilities.given();
    if (batch_.reference_log_probabilities.given()) {
      b.delta = b.log_probability - reference;
      sum += reference;
    }
    if (off_policy) {
      b.log_ratio = b.log_probability - behavior;
      sum += behavior;
    }
    if (batch_.sampler_log_probabilities.given()) {
      b.correction = (off_policy ? behavior : b.log_probability) - sampler;
      sum += sampler;
    }
    if (!is_finite(sum.sum())) check_finite(i, b, reference, behavior, sampler);
  }

  /// The block's part of a view, with 0 where a token does not count, whatever stands there.
  template <class View>
  static void read(const View& view, Eigen::Index i, const token_block<S>& b, token_values<S>& values) {
    if (!view.given()) return;
    const S* const row = view.row(i) + b.first;
    if (b.size == values.size()) {
      values = Eigen::Map<const token_values<S>>(row);
    } else {
      values.setZero();
      std::copy_n(row, b.size, values.data());
    }
    if (b.tokens < static_cast<double>(b.size))
      for (Eigen::Index j = 0; j < 64; ++j) values[j] = b.counts[j] != 0 ? values[j] : S{0};
  }

  /// Throws at the first log-probability that is not finite; there may be none.
  void check_finite(Eigen::Index i, const token_block<S>& b, const token_values<S>& reference,
                    const token_values<S>& behavior, const token_values<S>& sampler) const {
    for (Eigen::Index j = 0; j < b.size; ++j) {
      const auto check = [&](const char* what, const auto& view, S x) {
        if (view.given() && !is_finite(x)) fail(function_, text("finite ", what), text(x, at(i, b.first + j)));
      };
      check("log_probabilities", batch_.log_probabilities, b.log_probability[j]);
      check("reference_log_probabilities", batch_.reference_log_probabilities, reference[j]);
      check("behavior_log_probabilities", batch_.behavior_log_probabilities, behavior[j]);
      check("sampler_log_probabilities", batch_.sampler_log_probabilities, sampler[j]);
    }
  }

  const char* function_;
  const token_batch<S, Mask>& batch_;
};

/// The terms of the loss of a block's tokens, added up: their sum, and the derivative by each log-probability.
template <real_scalar S>
struct block_terms {
  using values = token_values<S>;
  const token_block<S>& block;
  values slope, credit, weight;  // weight: min(π_old/π_sampler, cap)
  values rho, rho_slope;
  double loss = 0, ratio = 0, clipped_low = 0, clipped_high = 0;

  block_terms(const token_block<S>& b, S slope_of_response) : block(b), slope(values::Constant(slope_of_response)) {}

  template <class Mask>
  void weigh(const token_batch<S, Mask>& batch) {
    weight.setOnes();
    rho.setOnes();
    rho_slope.setOnes();
    if (batch.sampler_log_probabilities.given())
      weight = exponentials<S>(block.correction).value.min(static_cast<S>(batch.sampler_weight_cap));
    if (batch.behavior_log_probabilities.given()) {
      const exponentials<S> e(block.log_ratio);
      rho = e.value;
      rho_slope = e.slope;
    }
  }

  template <surrogate F>
  void add(const F& f) {
    values losses, slopes, ratios, low, high;  // of its own, so that the compiler knows that nothing else is written
    for (Eigen::Index j = 0; j < 64; ++j) {
      const auto term = [&] {
        if constexpr (requires { f.with_ratio(credit[j], value_and_slope<S>{}, credit[j]); })
          return f.with_ratio(block.log_probability[j], value_and_slope<S>{rho[j], rho_slope[j]}, credit[j]);
        else
          return block.counts[j] != 0 ? f(block.log_probability[j], block.log_ratio[j], credit[j])
                                      : surrogate_term<S>{};
      }();
      losses[j] = term.loss;
      slopes[j] = term.slope;
      ratios[j] = term.ratio;
      low[j] = term.clipped < 0 ? S{1} : S{0};
      high[j] = term.clipped > 0 ? S{1} : S{0};
    }
    slope += weight * slopes;
    loss += static_cast<double>((weight * losses * block.counts).sum());
    ratio += static_cast<double>((ratios * block.counts).sum());
    clipped_low += static_cast<double>((low * block.counts).sum());
    clipped_high += static_cast<double>((high * block.counts).sum());
  }

  /// The KL loss of each token, off-policy weighted by ρ.
  template <kl_term KL>
  void add(const KL& kl) {
    const auto [value, by_delta] = estimate_each(kl, block.delta);
    const values importance = static_cast<S>(kl.beta) * rho * weight;
    loss += static_cast<double>((importance * value * block.counts).sum());
    slope += importance * by_delta;
  }
};

}  // namespace infalign::detail
