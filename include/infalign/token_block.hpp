// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/surrogate.hpp>
#include <infalign/token_batch.hpp>
#include <infalign/vector_exp.hpp>

#include <algorithm>

/// How the step reads a batch: 64 tokens of a response at a time, so that the compiler's and Eigen's vector
/// instructions can work on them, and what follows from them stays in the cache.
namespace infalign::detail {

/// One number for each token of a block.
template <real_scalar S>
using token_values = Eigen::Array<S, 64, 1>;

/// z = x/log 2 kept where 2^z is a number: from what gives 0 up to x = 20.
template <real_scalar S, class Z>
token_values<S> kept_exponents(const Z& z) {
  return z.min(static_cast<S>(20 * per_log_2)).max(static_cast<S>(-exponent_bias<S>));
}

/// e^x and its derivative, as `capped_exp`.
template <real_scalar S>
struct exponentials {
  token_values<S> value, slope;

  explicit exponentials(const token_values<S>& x) {
    const token_values<S> z = kept_exponents<S>(x * static_cast<S>(per_log_2));
    powers(z.data(), slope.data());
    value = slope * (1 + (x - S{20}).max(S{0}));
  }

 private:
  static void powers(const S* __restrict z, S* __restrict result) {
    for (int j = 0; j < 64; ++j) result[j] = power_of_two<S>(z[j]).value();
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

/// k3, as for one token; where −δ is beyond what is kept, along the straight line.
template <real_scalar S>
void k3_of_exponents(const S* __restrict z, S* __restrict value, S* __restrict slope) {
  for (int j = 0; j < 64; ++j) {
    const power_of_two<S> power(z[j]);
    value[j] = power.minus_line(z[j]);
    slope[j] = -power.minus_one();
  }
}
template <real_scalar S>
estimates<S> k3(const token_values<S>& delta) {
  const token_values<S> z = delta * static_cast<S>(-per_log_2), kept = kept_exponents<S>(z);
  estimates<S> result;
  k3_of_exponents(kept.data(), result.value.data(), result.slope.data());
  result.value -= result.slope * (static_cast<S>(log_2) * (z - kept));
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
  Eigen::Index first = 0, size = 0;
  /// How many count.
  double tokens = 0;
  /// 1 where a token counts, else 0.
  token_values<S> counts = token_values<S>::Zero();
  /// log π_θ, and the log-ratios of π_θ to π_ref, of π_θ to π_old, and of π_old to the sampler; 0 where the batch has
  /// none.
  token_values<S> log_probability, delta = token_values<S>::Zero(), log_ratio = delta, correction = delta;
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
    token_block<S> block{};
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

  using values = token_values<S>;

  void read_values(Eigen::Index i, token_block<S>& b) const {
    values buffers[4];
    const auto now = values_of(batch_.log_probabilities, i, b, buffers[0]);
    b.log_probability = now;
    values sum = now;
    const bool off_policy = batch_.behavior_log_probabilities.given();
    if (batch_.reference_log_probabilities.given()) {
      const auto reference = values_of(batch_.reference_log_probabilities, i, b, buffers[1]);
      b.delta = now - reference;
      sum += reference;
    }
    if (off_policy) {
      const auto behavior = values_of(batch_.behavior_log_probabilities, i, b, buffers[2]);
      b.log_ratio = now - behavior;
      sum += behavior;
    }
    if (batch_.sampler_log_probabilities.given()) {
      const auto sampler = values_of(batch_.sampler_log_probabilities, i, b, buffers[3]);
      b.correction = (off_policy ? values_of(batch_.behavior_log_probabilities, i, b, buffers[2]) : now) - sampler;
      sum += sampler;
    }
    if (!is_finite(sum.sum())) check_finite(i, b);
  }

  /// The block's part of a view, in place; or in the buffer, with 0 where a token does not count, whatever stands there.
  static Eigen::Map<const values> values_of(const matrix_view<S>& view, Eigen::Index i, const token_block<S>& b,
                                            values& buffer) {
    const S* const row = view.row(i) + b.first;
    if (b.tokens == 64) return Eigen::Map<const values>(row);
    for (Eigen::Index j = 0; j < 64; ++j) buffer[j] = j < b.size && b.counts[j] != 0 ? row[j] : S{0};
    return Eigen::Map<const values>(buffer.data());
  }

  /// Throws at the first log-probability that is not finite; there may be none.
  void check_finite(Eigen::Index i, const token_block<S>& b) const {
    const auto check = [&](const char* what, const matrix_view<S>& view, Eigen::Index j) {
      if (!view.given()) return;
      const S x = view.row(i)[b.first + j];
      if (!is_finite(x)) fail(function_, text("finite ", what), text(x, at(i, b.first + j)));
    };
    for (Eigen::Index j = 0; j < b.size; ++j) {
      if (b.counts[j] == 0) continue;
      check("log_probabilities", batch_.log_probabilities, j);
      check("reference_log_probabilities", batch_.reference_log_probabilities, j);
      check("behavior_log_probabilities", batch_.behavior_log_probabilities, j);
      check("sampler_log_probabilities", batch_.sampler_log_probabilities, j);
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
  values slope, importance, rho, rho_slope;  // importance: min(π_old/π_sampler, cap)
  double loss = 0, ratio = 0, clipped_low = 0, clipped_high = 0;

  block_terms(const token_block<S>& b, S slope_of_response) : block(b), slope(values::Constant(slope_of_response)) {}

  template <class Mask>
  void weigh(const token_batch<S, Mask>& batch) {
    importance.setOnes();
    rho.setOnes();
    rho_slope.setOnes();
    if (batch.sampler_log_probabilities.given())
      importance = exponentials<S>(block.correction).value.min(static_cast<S>(batch.sampler_weight_cap));
    if (batch.behavior_log_probabilities.given()) {
      const exponentials<S> e(block.log_ratio);
      rho = e.value;
      rho_slope = e.slope;
    }
  }

  /// The surrogate's terms, of one advantage for all or of one for each token.
  template <surrogate F, class Advantage>
  void add(const F& f, const Advantage& advantage) {
    values losses, slopes, low, high;
    if constexpr (requires { f.at(S{}); } && std::same_as<Advantage, S>) {
      add_each(f.at(advantage), block.log_probability.data(), rho.data(), rho_slope.data(), losses.data(),
               slopes.data(), low.data(), high.data());
    } else {
      for (Eigen::Index j = 0; j < 64; ++j) {
        surrogate_term<S> term{};
        if (block.counts[j] != 0) {
          S A;
          if constexpr (std::same_as<Advantage, S>)
            A = advantage;
          else
            A = advantage[j];
          if constexpr (requires { f.at(S{}); })
            term = f.at(A)(block.log_probability[j], value_and_slope<S>{rho[j], rho_slope[j]});
          else
            term = f(block.log_probability[j], block.log_ratio[j], A);
          rho[j] = term.ratio;
        }
        losses[j] = term.loss;
        slopes[j] = term.slope;
        low[j] = term.clipped < 0 ? S{1} : S{0};
        high[j] = term.clipped > 0 ? S{1} : S{0};
      }
    }
    slope += importance * slopes;
    loss += sum(importance * losses);
    ratio += sum(rho);
    clipped_low += sum(low);
    clipped_high += sum(high);
  }

  /// The KL loss of each token, off-policy weighted by ρ.
  template <kl_term KL>
  void add(const KL& kl) {
    const auto [value, by_delta] = estimate_each(kl, block.delta);
    const values weight = static_cast<S>(kl.beta) * rho * importance;
    loss += sum(weight * value);
    slope += weight * by_delta;
  }

  /// The derivative by each log-probability of the batch's loss, in which the response weighs that much.
  void write(S* gradient, S weight_of_response) const {
    Eigen::Map<values> whole(gradient);
    if (block.tokens == 64)
      whole = weight_of_response * slope;
    else
      Eigen::Map<array<S>>(gradient, block.size) = (weight_of_response * slope * block.counts).head(block.size);
  }

 private:
  /// Over the tokens that count.
  template <class E>
  double sum(const E& terms) const {
    return static_cast<double>(block.tokens == 64 ? terms.sum() : (terms * block.counts).sum());
  }

  // Apart, so that the compiler knows that nothing is written where it reads.
  template <class F>
  static void add_each(const F& f, const S* __restrict log_probability, const S* __restrict rho,
                       const S* __restrict rho_slope, S* __restrict losses, S* __restrict slopes, S* __restrict low,
                       S* __restrict high) {
    for (int j = 0; j < 64; ++j) {
      const auto term = f(log_probability[j], value_and_slope<S>{rho[j], rho_slope[j]});
      losses[j] = term.loss;
      slopes[j] = term.slope;
      low[j] = term.clipped < 0 ? S{1} : S{0};
      high[j] = term.clipped > 0 ? S{1} : S{0};
    }
  }
};

}  // namespace infalign::detail
