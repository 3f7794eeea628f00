// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/detail/token_reader.hpp>
#include <infalign/step/kl.hpp>
#include <infalign/step/probability_ratio.hpp>
#include <infalign/step/surrogate.hpp>

#include <algorithm>
#include <cmath>

#include <infalign/detail/begin.hpp>

/// \file
/// Stage 3 of the step: the terms of the loss, and their derivatives. The same code serves 64 tokens in S and a whole
/// response in double.
namespace INFALIGN_NAMESPACE::detail {

/// In place of a surrogate or a KL loss: there is none.
struct no_term {};

/// How the terms of a batch are weighted.
struct term_weights {
  bool off_policy, sampled;
  double floor, cap;  ///< of π_old/π_sampler
  bool masks;         ///< ratios outside [floor, cap] have weight 0
  bool of_sequence;   ///< all tokens of a response have the weight of its ratio
};

template <real_scalar S, class Mask>
term_weights weights_of(const token_batch<S, Mask>& batch) {
  const auto mode = batch.sampler_weights;
  return {.off_policy = batch.old_log_probabilities.given(),
          .sampled = batch.sampler_log_probabilities.given(),
          .floor = batch.sampler_weight_floor,
          .cap = batch.sampler_weight_cap,
          .masks = mode == sampler_mode::token_mask || mode == sampler_mode::sequence_mask,
          .of_sequence = mode == sampler_mode::sequence_truncate || mode == sampler_mode::sequence_mask};
}

/// The ratios of tokens that are all 1: their sum, and none that is clipped.
struct unclipped {
  double ratio, clipped_low = 0, clipped_high = 0;
};

/// The weight of a ratio π_old/π_sampler.
template <real_scalar S>
[[gnu::always_inline]] inline S sampler_weight(S ratio, S floor, S cap, S masks) {
  const clipped_ratio<S> weight(ratio, floor, cap);
  return weight.value * (1 - masks * (1 - weight.inside));
}

/// Throws at the first number of a response's gradient, or if its loss, is not finite. It may be only a sum that is not.
template <real_scalar S>
void check_response(const char* function, const matrix<S>& gradient, double loss, Eigen::Index i) {
  for (Eigen::Index t = 0; t < gradient.cols(); ++t)
    if (!is_finite(gradient(i, t))) fail(function, "a finite gradient", concat(gradient(i, t), position(i, t)));
  if (!is_finite(loss)) fail(function, "a finite loss", concat(loss, " for response ", i));
}

/// The terms of N units: the derivative of each, and sums over the unmasked ones.
template <real_scalar S, int N>
class unit_terms {
 public:
  using values = Eigen::Array<S, N, 1>;

  /// Sums of the loss, of ρ, and of the units that are clipped at each end.
  double loss = 0, ratio = 0, clipped_low = 0, clipped_high = 0;
  /// d loss / d log π_θ of each unit.
  values slopes;

  explicit unit_terms(const units<S, N>& u) : units_(u) {}

  /// There are no terms: all slopes are 0.
  void no_terms() { fill<N>(S{0}, slopes.data()); }
  /// Multiplies all terms by a number.
  void scale(S by) {
    loss *= static_cast<double>(by);
    for (int j = 0; j < N; ++j) slopes[j] *= by;
  }

  /// Computes the terms of a surrogate f and of a KL loss, or of one of them, with `no_term` for the other. The
  /// advantage is a number or an array of N.
  template <class F, class Advantage, class KL>
  void compute(const term_weights& weights, const F& f, const Advantage& advantage, const KL& kl) {
    values losses, ratios, ends, z[4];
    inputs in{units_.log_probability, units_.to_old.data(), units_.to_reference.data()};
    if constexpr (needs_ratio<KL>) {
      exponents(S{-1}, units_.to_reference, z[0], z[1]);
      in.z_kl = z[0].data(), in.clamped_kl = z[1].data();
    }
    if (weights.off_policy) {
      exponents(S{1}, units_.to_old, z[2], z[3]);
      in.z_old = z[2].data(), in.clamped_old = z[3].data();
      each<F, true>(term_of(f, advantage), kl, in, losses.data(), slopes.data(), ratios.data(), ends.data());
    } else {
      each<F, false>(term_of(f, advantage), kl, in, losses.data(), slopes.data(), ratios.data(), ends.data());
    }
    if (weights.sampled) {
      values importance;
      exponents(S{1}, units_.to_sampler, z[2], z[3]);
      sampler_weights(z[2].data(), z[3].data(), weights, importance.data());
      multiply<N>(losses.data(), importance.data());
      multiply<N>(slopes.data(), importance.data());
    }
    loss = sum(losses);
    ratio = units_.active;
    if constexpr (has_ratio<F>) {
      ratio = sum(ratios);
      const double clipped = sum(ends);
      constexpr double high = static_cast<double>(high_end);
      clipped_high = std::floor(clipped / high);
      clipped_low = clipped - high * clipped_high;
    }
  }

 private:
  /// What a unit clipped at the high end adds, where one clipped at the low end adds 1: one sum counts both.
  static constexpr S high_end = 128;

  template <class KL>
  static constexpr bool needs_ratio = requires(const KL& kl, S delta, const probability_ratio<S>& r) {
    kl.loss(delta, r);
  };

  template <class F>
  static constexpr bool has_ratio = [] {
    if constexpr (std::same_as<F, no_term>)
      return false;
    else
      return F::ratio != ratio_of::nothing;
  }();

  /// Exponents of e^{±log-ratio}, in two loops: see `clamped_exponent`.
  static void exponents(S sign, const values& log_ratio, values& z, values& clamped) {
    for (int j = 0; j < N; ++j) z[j] = exponent_of(sign * log_ratio[j]);
    for (int j = 0; j < N; ++j) clamped[j] = clamped_exponent(z[j]);
  }

  /// Over the unmasked units.
  double sum(const values& terms) const {
    if (units_.active == N) return static_cast<double>(sum_of<N>(terms.data()));
    values unmasked;
    keep_unmasked<N>(terms.data(), units_.mask.data(), unmasked.data());
    return static_cast<double>(sum_of<N>(unmasked.data()));
  }

  /// The surrogate's term of unit j, from log π_θ and ρ.
  template <class F, class Advantage>
  static auto term_of(const F& f, const Advantage& advantage) {
    if constexpr (std::same_as<F, no_term>)
      return [](int, S, const probability_ratio<S>&) -> surrogate_term<S> { return {0, 0}; };
    else if constexpr (std::same_as<Advantage, S>)
      return [term = f.prepare(advantage)](int, S log_probability, const probability_ratio<S>& rho) {
        return term(log_probability, rho);
      };
    else
      return [&](int j, S log_probability, const probability_ratio<S>& rho) {
        return f.prepare(advantage[j])(log_probability, rho);
      };
  }

  /// The numbers of N units. Exponents are those of e^{log-ratio}, and null if they are not needed.
  struct inputs {
    const S *log_probability, *to_old, *to_reference;
    const S *z_old = nullptr, *clamped_old = nullptr, *z_kl = nullptr, *clamped_kl = nullptr;
  };

  // A function of its own, so that the compiler knows that nothing is written where it reads.
  template <class F, bool OffPolicy, class Term, class KL>
  static void each(const Term& term_of, const KL& kl, const inputs& in, S* __restrict losses, S* __restrict slopes,
                   S* __restrict ratios, S* __restrict ends) {
    const S* __restrict log_probability = in.log_probability;
    const S* __restrict to_old = in.to_old;
    const S* __restrict z_old = in.z_old;
    const S* __restrict clamped_old = in.clamped_old;
    const S* __restrict to_reference = in.to_reference;
    const S* __restrict z_kl = in.z_kl;
    const S* __restrict clamped_kl = in.clamped_kl;
    for (int j = 0; j < N; ++j) {
      const probability_ratio<S> rho(OffPolicy ? to_old[j] : S{0}, OffPolicy ? z_old[j] : S{0},
                                     OffPolicy ? clamped_old[j] : S{0});
      const auto term = term_of(j, log_probability[j], rho);
      if constexpr (has_ratio<F>) {
        ratios[j] = rho.value;
        ends[j] = term.clipped * ((high_end - 1) / 2 + term.clipped * ((high_end + 1) / 2));
      }
      S loss = term.loss, slope = term.slope;
      if constexpr (!std::same_as<KL, no_term>) {
        constexpr bool ratio = needs_ratio<KL>;
        const auto estimate = kl_loss(kl, to_reference[j],
                                      probability_ratio<S>(ratio ? -to_reference[j] : S{0}, ratio ? z_kl[j] : S{0},
                                                           ratio ? clamped_kl[j] : S{0}));
        const S weight = static_cast<S>(kl.beta) * rho.value;
        loss += weight * static_cast<S>(estimate.value);
        slope += weight * static_cast<S>(estimate.slope);
      }
      losses[j] = loss;
      slopes[j] = slope;
    }
  }

  static void sampler_weights(const S* __restrict z, const S* __restrict clamped, const term_weights& weights,
                              S* __restrict importance) {
    const S floor = static_cast<S>(weights.floor), cap = static_cast<S>(weights.cap),
            masks = weights.masks ? S{1} : S{0};
    for (int j = 0; j < N; ++j)
      importance[j] = sampler_weight(probability_ratio<S>(0, z[j], clamped[j]).value, floor, cap, masks);
  }

  const units<S, N>& units_;
};

}  // namespace INFALIGN_NAMESPACE::detail

#include <infalign/detail/end.hpp>
