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

/// z = x/log 2 kept where 2^z is a number: from what gives 0 up to x = 20. By themselves, because compilers make branches
/// of these in a longer loop.
template <real_scalar S>
token_values<S> kept_below(const token_values<S>& x, double per_log) {
  return (x * static_cast<S>(per_log)).max(static_cast<S>(-exponent_bias<S>));
}
template <real_scalar S>
token_values<S> kept_above(const token_values<S>& z) {
  return z.min(static_cast<S>(20 * per_log_2));
}

/// e^x and its derivative, as `capped_exp`, from z = x/log 2 kept below, and kept above too: beyond, along the straight
/// line.
template <real_scalar S>
[[gnu::always_inline]] inline value_and_slope<S> exponential(S z, S kept) {
  const S slope = power_of_two<S>(kept).value();
  return {slope * (1 + static_cast<S>(log_2) * (z - kept)), slope};
}

/// k3 and its derivative by δ, from −δ/log 2 kept: beyond, along the straight line.
template <real_scalar S>
[[gnu::always_inline]] inline value_and_slope<S> k3(S delta, S kept) {
  const power_of_two<S> power(kept);
  const S slope = -power.minus_one(), rest = delta * static_cast<S>(-per_log_2) - kept;
  return {power.minus_line(kept) - slope * (static_cast<S>(log_2) * rest), slope};
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
  /// log π_θ: 64 numbers.
  const S* log_probability = nullptr;
  /// A log-ratio of each token, and their sum: of π_θ to π_ref, of π_θ to π_old, and of π_old to the sampler; 0 where
  /// the batch has none.
  struct log_ratios {
    token_values<S> values = token_values<S>::Zero();
    double sum = 0;
  } delta, log_ratio, correction;
  /// Where log-probabilities are kept of which not all count.
  token_values<S> buffers[4];
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

  /// Calls f(block) for each block of response i. Throws for a mask of other than 0 and 1, and for a log-probability that
  /// is not finite where it is 1.
  template <class F>
  void for_each_block(Eigen::Index i, const F& f) const {
    const auto T = batch_.log_probabilities.cols();
    token_block<S> block;
    if (!batch_.mask.given()) block.counts.setOnes();
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
    if (!batch_.mask.given()) {
      b.counts.tail(b.counts.size() - b.size).setZero();
      b.tokens = static_cast<double>(b.size);
      return;
    }
    if (!whole) b.counts.setZero();
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
    using view = Eigen::Map<const values>;
    bool finite = true;  // of a sum with what is not finite, or of its difference to anything, nothing finite comes
    const auto difference = [&](const view& x, const view& y, typename token_block<S>::log_ratios& result) {
      result.values = x - y;
      const S sum = result.values.sum();
      finite = finite && is_finite(sum);
      result.sum = static_cast<double>(sum);
    };
    const auto now = values_of(batch_.log_probabilities, i, b, b.buffers[0]);
    b.log_probability = now.data();
    const bool off_policy = batch_.behavior_log_probabilities.given();
    const auto behavior =
        off_policy ? values_of(batch_.behavior_log_probabilities, i, b, b.buffers[1]) : view(now.data());
    if (off_policy) difference(now, behavior, b.log_ratio);
    if (batch_.reference_log_probabilities.given())
      difference(now, values_of(batch_.reference_log_probabilities, i, b, b.buffers[2]), b.delta);
    else if (!off_policy)
      finite = is_finite(now.sum());
    if (batch_.sampler_log_probabilities.given())
      difference(behavior, values_of(batch_.sampler_log_probabilities, i, b, b.buffers[3]), b.correction);
    if (!finite) check_finite(i, b);
  }

  /// The block's part of a view, in place; or in the buffer, with 0 where a token does not count, whatever stands there.
  static Eigen::Map<const values> values_of(const matrix_view<S>& view, Eigen::Index i, const token_block<S>& b,
                                            values& buffer) {
    const S* const row = view.row(i) + b.first;
    if (b.tokens == 64) return Eigen::Map<const values>(row);
    if (b.size == 64)
      keep_counted(row, b.counts.data(), buffer.data());
    else
      for (Eigen::Index j = 0; j < 64; ++j) buffer[j] = j < b.size && b.counts[j] != 0 ? row[j] : S{0};
    return Eigen::Map<const values>(buffer.data());
  }
  /// By their bits, so that NaN, too, is gone where a token does not count. 1 has its third highest bit set, 0 has not.
  static void keep_counted(const S* __restrict row, const S* __restrict counts, S* __restrict result) {
    using bits = bits_of<S>;
    for (int j = 0; j < 64; ++j)
      result[j] = std::bit_cast<S>(std::bit_cast<bits>(row[j]) &
                                   (bits{0} - (std::bit_cast<bits>(counts[j]) >> (sizeof(S) * 8 - 3) & 1)));
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

/// In place of a surrogate or of a KL loss: there is none.
struct nothing {};

/// The terms of the loss of a block's tokens: the derivative by each log-probability, and over the tokens that count
/// the sums of the terms, of ρ, and of those that clipping holds.
template <real_scalar S>
struct block_terms {
  using values = token_values<S>;
  const token_block<S>& block;
  double loss = 0, ratio = 0, clipped_low = 0, clipped_high = 0;
  values slopes;

  explicit block_terms(const token_block<S>& b) : block(b) {}

  /// The terms of a surrogate, and of a KL loss of tokens, off-policy weighted by ρ; or of one of them, for the other of
  /// which there is `nothing`. One advantage for all, or one for each token.
  template <class Mask, class F, class Advantage, class KL>
  void add(const token_batch<S, Mask>& batch, const F& f, const Advantage& advantage, const KL& kl) {
    values losses, ratios, ends, kept[3];
    const S *exponent = block.log_ratio.values.data(), *kept_exponent = exponent;
    const S* kept_delta = block.delta.values.data();
    const auto run = [&](auto off_policy) {
      each<decltype(off_policy)::value>(term_of(f, advantage), kl, block.log_probability, exponent, kept_exponent,
                                        block.delta.values.data(), kept_delta, losses.data(), slopes.data(),
                                        ratios.data(), ends.data());
    };
    if constexpr (std::same_as<KL, k3_token_loss>) {
      kept[0] = kept_above<S>(kept_below<S>(block.delta.values, -per_log_2));
      kept_delta = kept[0].data();
    }
    if (batch.behavior_log_probabilities.given()) {
      kept[1] = kept_below<S>(block.log_ratio.values, per_log_2);
      kept[2] = kept_above<S>(kept[1]);
      exponent = kept[1].data();
      kept_exponent = kept[2].data();
      run(std::true_type{});
    } else {
      run(std::false_type{});
    }
    if (batch.sampler_log_probabilities.given()) {
      values importance;
      kept[0] = kept_below<S>(block.correction.values, per_log_2);
      weigh(kept[0].data(), kept_above<S>(kept[0]).data(), static_cast<S>(batch.sampler_weight_cap), importance.data());
      losses *= importance;
      slopes *= importance;
    }
    loss = sum(losses);
    if constexpr (!std::same_as<F, nothing>) {
      ratio = sum(ratios);
      const double held = sum(ends);
      clipped_high = std::floor(held / high_end);
      clipped_low = held - high_end * clipped_high;
    }
  }

  /// The derivative by each log-probability of the batch's loss, in which the response weighs that much, and has a slope
  /// of its own.
  void write(S* gradient, S slope_of_response, S weight_of_response) const {
    Eigen::Map<values> whole(gradient);
    if (block.tokens == 64)
      whole = weight_of_response * (slopes + slope_of_response);
    else
      Eigen::Map<array<S>>(gradient, block.size) =
          (weight_of_response * (slopes + slope_of_response) * block.counts).head(block.size);
  }

 private:
  /// What a token adds that is held at the high end, where one at the low end adds 1: so that both are summed at once.
  static constexpr S high_end = 128;

  /// Over the tokens that count.
  double sum(const values& terms) const {
    return static_cast<double>(block.tokens == 64 ? terms.sum() : (terms * block.counts).sum());
  }

  /// The surrogate's term of token j, from log π_θ and ρ.
  template <class F, class Advantage>
  auto term_of(const F& f, const Advantage& advantage) const {
    using rho = value_and_slope<S>;
    if constexpr (std::same_as<F, nothing>) {
      return [](int, S, rho) -> vector_term<S> { return {0, 0}; };
    } else if constexpr (requires { f.at(S{}); } && std::same_as<Advantage, S>) {
      return [at = f.at(advantage)](int, S log_probability, rho r) { return at(log_probability, r); };
    } else {
      return [&](int j, S log_probability, rho r) -> surrogate_term<S> {
        if (block.counts[j] == 0) return {0, 0};
        S A;
        if constexpr (std::same_as<Advantage, S>)
          A = advantage;
        else
          A = advantage[j];
        if constexpr (requires { f.at(S{}); })
          return f.at(A)(log_probability, r);
        else
          return f(log_probability, block.log_ratio.values[j], A);
      };
    }
  }

  // Apart, so that the compiler knows that nothing is written where it reads.
  template <bool OffPolicy, class Term, class KL>
  static void each(const Term& term_of, const KL& kl, const S* __restrict log_probability, const S* __restrict exponent,
                   const S* __restrict kept_exponent, const S* __restrict delta, const S* __restrict kept_delta,
                   S* __restrict losses, S* __restrict slopes, S* __restrict ratios, S* __restrict ends) {
    for (int j = 0; j < 64; ++j) {
      value_and_slope<S> rho{1, 1};
      if constexpr (OffPolicy) rho = exponential(exponent[j], kept_exponent[j]);
      const auto term = term_of(j, log_probability[j], rho);
      ratios[j] = term.ratio;
      const S end = static_cast<S>(term.clipped);
      ends[j] = end * ((high_end - 1) / 2 + end * ((high_end + 1) / 2));
      S loss = term.loss, by_log_probability = term.slope;
      if constexpr (!std::same_as<KL, nothing>) {
        value_and_slope<S> estimate;
        if constexpr (std::same_as<KL, k3_token_loss>) {
          estimate = k3(delta[j], kept_delta[j]);
        } else {
          const auto given = kl.estimate(delta[j]);  // of a user's own, perhaps in double
          estimate = {static_cast<S>(given.value), static_cast<S>(given.slope)};
        }
        const S weight = static_cast<S>(kl.beta) * rho.value;
        loss += weight * estimate.value;
        by_log_probability += weight * estimate.slope;
      }
      losses[j] = loss;
      slopes[j] = by_log_probability;
    }
  }

  /// min(π_old/π_sampler, cap)
  static void weigh(const S* __restrict exponent, const S* __restrict kept, S cap, S* __restrict importance) {
    for (int j = 0; j < 64; ++j) importance[j] = std::min(exponential(exponent[j], kept[j]).value, cap);
  }
};

}  // namespace infalign::detail
