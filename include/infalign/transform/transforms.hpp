// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/detail/vector_exp.hpp>
#include <infalign/transform/functions.hpp>
#include <infalign/transform/transform.hpp>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include <infalign/detail/begin.hpp>

/// \file
/// The transforms: identity, logarithm, exponentials, powers, tables.
namespace INFALIGN_NAMESPACE {

/// The optimal transform for plain sampling (N = 1).
///
///     Φ(u) = u
struct identity {
  /// The value at u.
  template <real_scalar S>
  INFALIGN_HOST_DEVICE S operator()(S u) const {
    return u;
  }
};

/// The transform whose aligned policy, with β = 1/(N − 1), is best-of-N of the reference.
///
///     Φ(u) = log u
///
/// Accuracy: 1 ulp.
///
/// Φ(0) = −∞, which `transform` rejects. Calibrate with `add_one_rank`, whose ranks are above 0.
struct logarithm {
  /// The value at u.
  template <real_scalar S>
  INFALIGN_HOST_DEVICE S operator()(S u) const {
    return vectorized::log(u);
  }
};

/// The logarithm of the density of `soft_best_of{n, lambda}`: with β = 1/(n − 1) the policy becomes that choice among n
/// responses of the reference. Unlike `logarithm`, it is finite at 0.
///
///     Φ(u) = log(1 + (e^{λ/n} − 1)·u)
///
/// Range: [0, λ/n].
/// Accuracy: relative 3·ε.
/// Errors: unless n ≥ 1, and λ/n is above 0 and at most 80 (float) or 700 (double).
struct soft_logarithm {
  /// The number of responses, at least 1.
  int n;
  /// λ, above 0.
  double lambda;

  /// Checks the parameters for scalar type S.
  template <real_scalar S>
  void check(S) const {
    constexpr auto name = "soft_logarithm";
    if (n < 1) detail::fail(name, "n of at least 1", detail::concat(n));
    detail::check_positive(name, "a lambda", lambda);
    constexpr double most = std::same_as<S, float> ? 80 : 700;
    if (lambda / n > most) detail::fail(name, detail::concat("lambda/n of at most ", most), detail::concat(lambda / n));
  }

  /// The function of many numbers.
  template <real_scalar S>
  INFALIGN_HOST_DEVICE auto prepare(S) const {
    return [scale = static_cast<S>(std::expm1(lambda / n))](S u) { return vectorized::log1p(scale * u); };
  }

  /// The value at u.
  template <real_scalar S>
  INFALIGN_HOST_DEVICE S operator()(S u) const {
    return prepare(u)(u);
  }
};

/// A branch-free exponential of numbers in [0, 1], for a transform's `prepare`.
///
///     f(u) = e^{tu},   f.minus_one(u) = e^{tu} − 1
///
/// Range: u in [0, 1]; |t| ≤ 80 (float) or 700 (double), else `fits` is false and the values are unspecified.
/// Accuracy: relative error of f at most (|t| + 2)·ε.
template <real_scalar S>
class fast_exponential {
 public:
  /// For the rate t.
  INFALIGN_HOST_DEVICE explicit fast_exponential(double t) : rate_(t), fits(rate_.fits) {}

  /// e^{tu}.
  [[gnu::always_inline]] INFALIGN_HOST_DEVICE S operator()(S u) const { return rate_.power(u).value(); }

  /// e^{tu} − 1. It does not decrease if u increases.
  [[gnu::always_inline]] INFALIGN_HOST_DEVICE S minus_one(S u) const {
    const auto p = rate_.power(u);
    return p.scale * (p.curve + p.fraction * static_cast<S>(detail::log_2)) + (p.scale - 1);
  }

  /// Not inlined: the same number, however the caller's compiler contracts multiplications and additions.
  [[gnu::noinline]] INFALIGN_HOST_DEVICE S minus_one_at_1() const { return minus_one(1); }

 private:
  detail::exp_rate<S> rate_;

 public:
  /// True if |t| is in range.
  bool fits;
  /// Values are finite.
  static constexpr bool finite = true;
};

/// The exponential transform: t > 0 for best-of-N, t < 0 for worst-of-N (InfAlign, section 4.2; t = ±10 for N = 4).
///
///     Φ(u) = e^{tu}  for t > 0,   −e^{tu}  for t < 0
///
/// β must be of the size of e^t: t = 10 spans 22,025. `normalized_exponential` has the same policies in [0, 1].
///
/// Range: [1, e^t], or [−1, −e^t].
/// Accuracy: relative error at most (|t| + 2)·ε.
/// Errors: if t is 0, not finite, or above 88.7 (float) or 709.7 (double), because e^t overflows.
struct exponential {
  /// The rate. Positive for best-of-N, negative for worst-of-N.
  double t;

  /// Checks t for scalar type S.
  template <real_scalar S>
  void check(S) const {
    if (!detail::is_finite(t) || t == 0) detail::fail("exponential", "t finite and not 0", detail::concat(t));
    constexpr double limit = std::same_as<S, float> ? 88.7 : 709.7;
    if (t > limit)
      detail::fail("exponential",
                   detail::concat("t at most ", limit, ", so that e^t is a ", detail::name_of<S>,
                                  " (normalized_exponential has no limit)"),
                   detail::concat(t));
  }

  /// The function of many numbers.
  template <real_scalar S>
  INFALIGN_HOST_DEVICE auto prepare(S) const {
    return function<S>{fast_exponential<S>(t), t > 0 ? 0 : sign_bit<S>};
  }

  /// The value at u, which may be outside [0, 1].
  template <real_scalar S>
  INFALIGN_HOST_DEVICE S operator()(S u) const {
    if (const auto f = prepare(u); detail::covers(f, u)) return f(u);
    const double lowest = -static_cast<double>(std::numeric_limits<S>::max());
    const S e = std::exp(static_cast<S>(std::max(t, lowest)) * u);
    return t > 0 ? e : -e;
  }

 private:
  template <real_scalar S>
  static constexpr auto sign_bit = detail::bits_of<S>{1} << (sizeof(S) * 8 - 1);

  template <real_scalar S>
  struct function {
    fast_exponential<S> power;
    detail::bits_of<S> sign;
    bool fits = power.fits;
    static constexpr bool finite = true;

    [[gnu::always_inline]] INFALIGN_HOST_DEVICE S operator()(S u) const {
      return std::bit_cast<S>(std::bit_cast<detail::bits_of<S>>(power(u)) ^ sign);
    }
  };
};

/// The exponential transform, scaled to [0, 1]. Its policies are those of `exponential` of the same t with β divided by
/// |e^t − 1|.
///
///     Φ(u) = (e^{tu} − 1) / (e^t − 1),   u at t = 0
///
/// Range: [0, 1], for any finite t.
/// Accuracy: relative error at most (2|t| + 8)·ε if the value is not subnormal.
/// Errors: if t is not finite.
struct normalized_exponential {
  /// The rate. Positive for best-of-N, negative for worst-of-N.
  double t;

  /// Checks t.
  void check() const {
    if (!detail::is_finite(t)) detail::fail("normalized_exponential", "t finite", detail::concat(t));
  }

  /// The function of many numbers.
  template <real_scalar S>
  INFALIGN_HOST_DEVICE auto prepare(S) const {
    return function<S>(t);
  }

  /// The value at u, which may be outside [0, 1].
  template <real_scalar S>
  INFALIGN_HOST_DEVICE S operator()(S u) const {
    if (const auto f = prepare(u); detail::covers(f, u)) return f(u);
    constexpr double largest = static_cast<double>(std::numeric_limits<S>::max());
    const S s = static_cast<S>(std::clamp(t, -largest, largest));
    if (s * s < std::numeric_limits<S>::epsilon())
      return u * (1 + s * (u - 1) / 2);  // the series; its next term is below s²/12
    if (s < 0) return std::expm1(s * u) / std::expm1(s);
    return std::exp(s * (u - 1)) * (std::expm1(-s * u) / std::expm1(-s));
  }

 private:
  /// Does not fit a small t: too few digits would be left if a compiler reorders the terms (-ffast-math).
  template <real_scalar S>
  struct function {
    fast_exponential<S> power;
    bool fits;
    S whole;
    static constexpr bool finite = true;

    INFALIGN_HOST_DEVICE explicit function(double rate)
        : power(rate), fits(power.fits && std::abs(rate) > 0.25), whole(fits ? power.minus_one_at_1() : S{1}) {}

    [[gnu::always_inline]] INFALIGN_HOST_DEVICE S operator()(S u) const {
      const S y = power.minus_one(u) / whole + S{0};  // not −0
      return std::min(y, S{1});
    }
  };
};

/// A power. Exponent 2N − 1 is optimal for best-of-N if the KL is small.
///
///     Φ(u) = u^exponent
///
/// Range: [0, 1].
/// Accuracy: 0.4·exponent + 1 ulp for a whole exponent up to 127, which is vectorised; else that of std::pow.
/// Errors: unless the exponent is finite and above 0.
struct power {
  /// Above 0.
  double exponent;

  /// Checks the exponent.
  void check() const { detail::check_positive("power", "an exponent", exponent); }

  /// The function of many numbers.
  template <real_scalar S>
  INFALIGN_HOST_DEVICE auto prepare(S) const {
    return function<S>(exponent);
  }

  /// The value at u.
  template <real_scalar S>
  INFALIGN_HOST_DEVICE S operator()(S u) const {
    if (const auto f = prepare(u); detail::covers(f, u)) return f(u);
    return std::pow(u, static_cast<S>(exponent));
  }

 private:
  /// The product of u, u², u⁴, …, u⁶⁴, of those whose binary digit the exponent has.
  template <real_scalar S>
  struct function {
    detail::bits_of<S> digits[7] = {};  // all ones if the exponent has the digit
    bool fits;
    static constexpr bool finite = true;

    INFALIGN_HOST_DEVICE explicit function(double n) : fits(n > 0 && n < 128 && n == std::floor(n)) {
      for (int k = 0; k < 7 && fits; ++k) digits[k] = -static_cast<detail::bits_of<S>>(static_cast<int>(n) >> k & 1);
    }

    [[gnu::always_inline]] INFALIGN_HOST_DEVICE S operator()(S u) const {
      const S u2 = u * u, u4 = u2 * u2, u8 = u4 * u4, u16 = u8 * u8, u32 = u16 * u16, u64 = u32 * u32;
      return ((factor(0, u) * factor(1, u2)) * (factor(2, u4) * factor(3, u8))) *
             ((factor(4, u16) * factor(5, u32)) * factor(6, u64));
    }
    [[gnu::always_inline]] INFALIGN_HOST_DEVICE S factor(int k, S power) const {
      using bits = detail::bits_of<S>;
      constexpr bits one = std::bit_cast<bits>(S{1});
      return std::bit_cast<S>(one ^ ((std::bit_cast<bits>(power) ^ one) & digits[k]));
    }
  };
};

/// A transform given by its values at knots: a computed optimum, or anything measured. Plain data that can be saved and
/// read back.
///
/// Between knots it is a straight line, or a cubic if the slopes are given.
///
/// Shapes: at least 2 knots; as many values, and as many slopes if there are any.
/// Cost: a binary search.
/// Errors: unless the knots increase strictly from 0 to 1 and all numbers are finite. `transform` and `|` check this; a
/// single call does not, because the check is a pass over the table.
struct tabulated {
  /// Knots, strictly increasing from 0 to 1.
  array<double> u;
  /// Φ at the knots.
  array<double> value;
  /// dΦ/du at the knots, or empty.
  array<double> slope = {};

  /// Checks the table for scalar type S.
  template <real_scalar S>
  void check(S) const {
    using detail::concat;
    constexpr auto name = "tabulated";
    if (u.size() < 2) detail::fail(name, "at least 2 knots", concat(u.size()));
    detail::check_size(name, "values, one for each knot", u.size(), value.size());
    if (slope.size() > 0) detail::check_size(name, "slopes, one for each knot", u.size(), slope.size());
    for (Eigen::Index i = 0; i < u.size(); ++i) {
      if (!detail::is_finite(u[i]) || (i > 0 && u[i] <= u[i - 1]))
        detail::fail(name, "strictly increasing knots", concat(u[i], detail::position(i)));
      if (!detail::is_finite(static_cast<S>(value[i])))
        detail::fail(name, concat("values within the range of ", detail::name_of<S>),
                     concat(value[i], detail::position(i)));
      if (slope.size() > 0 && !detail::is_finite(slope[i]))
        detail::fail(name, "finite slopes", concat(slope[i], detail::position(i)));
    }
    if (u[0] != 0 || u[u.size() - 1] != 1)
      detail::fail(name, "knots from 0 to 1", concat(u[0], " to ", u[u.size() - 1]));
  }

  /// The value at x.
  template <real_scalar S>
  S operator()(S x) const {
    eigen_assert(u.size() >= 2 && value.size() == u.size());
    const auto i = cell(static_cast<double>(x));
    const double width = u[i] - u[i - 1], rise = value[i] - value[i - 1];
    const double w = (static_cast<double>(x) - u[i - 1]) / width;
    double y = std::lerp(value[i - 1], value[i], w);  // exact at both ends, and between them elsewhere
    if (slope.size() > 0) y += w * (1 - w) * ((1 - w) * (slope[i - 1] * width - rise) - w * (slope[i] * width - rise));
    return static_cast<S>(y);
  }

 private:
  /// The cell with u[i − 1] ≤ x < u[i]; the last cell includes its right end. A search without branches, because branches on
  /// random numbers are mostly predicted wrongly.
  Eigen::Index cell(double x) const {
    const double* first = u.data() + 1;
    for (Eigen::Index n = u.size() - 2; n > 0;) {
      const Eigen::Index half = (n + 1) / 2;
      first += half & -static_cast<Eigen::Index>(first[half - 1] <= x);
      n -= half;
    }
    return static_cast<Eigen::Index>(first - u.data());
  }
};

static_assert(reward_transform<identity> && reward_transform<logarithm> && reward_transform<exponential>);
static_assert(reward_transform<soft_logarithm> && reward_transform<normalized_exponential> && reward_transform<power> &&
              reward_transform<tabulated>);

}  // namespace INFALIGN_NAMESPACE

#include <infalign/detail/end.hpp>
