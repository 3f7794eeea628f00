// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/parallel.hpp>
#include <infalign/vector_exp.hpp>

#include <algorithm>
#include <cmath>
#include <utility>

/// Transforms Φ: [0, 1] → ℝ of a calibrated reward u, for the way the model will be used (InfAlign, section 4).
///
/// The aligned policy is p ∝ π_ref·exp(Φ/β): Φ and a·Φ + b at β and a·β give the same policy. A transform is a plain
/// increasing function of one number, so any lambda is one.
namespace infalign {

/// A transform: a function from a calibrated reward to the reward that is trained on. It may have a member `check(S)`,
/// called once for a batch of scalar S before its first value, to refuse its own parameters; and for vectorised work a
/// member `many<N>(u, result)`, from N numbers to N in another buffer, with the same bits as number by number. It
/// returns false, and leaves anything there, where a number is not in [0, 1] or its value not finite.
template <class F>
concept reward_transform = !array_expression<F> && requires(const F& phi, double u) {
  { phi(u) } -> std::convertible_to<double>;
};

/// Φ(u) = u: the optimum for plain sampling (N = 1).
struct identity {
  template <real_scalar S>
  S operator()(S u) const {
    return u;
  }
};

/// Φ(u) = log u: with β = 1/(N − 1) the aligned policy *is* best-of-N of the reference. At u = 0 it is −∞, which
/// `transform` refuses: calibrate with `add_one`, whose ranks are above 0.
struct logarithm {
  template <real_scalar S>
  S operator()(S u) const {
    return std::log(u);
  }
};

/// Φ(u) = e^{tu} for t > 0, for best-of-N; −e^{tu} for t < 0, for worst-of-N (InfAlign, section 4.2; t = ±10 for N =
/// 4).
///
/// Range: [1, e^t], or [−1, −e^t]. So β must be of the size of e^t: t = 10 spans 22,025; `normalized_exponential` gives
/// the same policies in [0, 1]. Relative error at most (|t| + 2)·ε. Throws for t = 0, not finite, or above 88.7 (float)
/// or 709.7 (double), where e^t overflows.
struct exponential {
  double t;

  template <real_scalar S>
  void check(S) const {
    if (!detail::is_finite(t) || t == 0) detail::fail("exponential", "t finite and not 0", detail::text(t));
    constexpr double limit = std::same_as<S, float> ? 88.7 : 709.7;
    if (t > limit)
      detail::fail("exponential",
                   detail::text("t at most ", limit, ", so that e^t is a ", detail::name_of<S>,
                                " (normalized_exponential has no limit)"),
                   detail::text(t));
  }

  template <real_scalar S>
  S operator()(S u) const {
    check(u);
    const detail::exponential_of<S> phi(t);
    if (phi.takes(u)) return phi(u);
    const double lowest = -static_cast<double>(std::numeric_limits<S>::max());
    const S e = std::exp(static_cast<S>(std::max(t, lowest)) * u);
    return t > 0 ? e : -e;
  }

  template <int N, real_scalar S>
  bool many(const S* u, S* result) const {
    return detail::apply_to_many<N>(detail::exponential_of<S>(t), u, result);
  }
};

/// Φ(u) = (e^{tu} − 1) / (e^t − 1), in [0, 1]: the policies of `exponential` of the same t, of either sign, with β
/// divided by |e^t − 1|; u at t = 0.
///
/// Any finite t: nothing overflows. Relative error at most (2|t| + 8)·ε where the value is not subnormal. Throws for t
/// not finite.
struct normalized_exponential {
  double t;

  template <real_scalar S>
  void check(S) const {
    if (!detail::is_finite(t)) detail::fail("normalized_exponential", "t finite", detail::text(t));
  }

  template <real_scalar S>
  S operator()(S u) const {
    check(u);
    const detail::normalized_exponential_of<S> phi(t);
    if (phi.takes(u)) return std::min(phi(u), S{1});
    constexpr double largest = static_cast<double>(std::numeric_limits<S>::max());
    const S s = static_cast<S>(std::clamp(t, -largest, largest));
    if (s * s < std::numeric_limits<S>::epsilon())
      return u * (1 + s * (u - 1) / 2);  // the series; its next term is below s²/12
    if (s < 0) return std::expm1(s * u) / std::expm1(s);
    return std::exp(s * (u - 1)) * (std::expm1(-s * u) / std::expm1(-s));
  }

  template <int N, real_scalar S>
  bool many(const S* u, S* result) const {
    if (!detail::apply_to_many<N>(detail::normalized_exponential_of<S>(t), u, result)) return false;
    Eigen::Map<Eigen::Array<S, N, 1>> values(result);
    values = values.min(S{1});
    return true;
  }
};

/// Φ(u) = u^exponent, in [0, 1]: exponent 2N − 1 is the optimum for best-of-N where the KL is small. Throws unless the
/// exponent is finite and above 0.
struct power {
  double exponent;

  template <real_scalar S>
  void check(S) const {
    detail::check_positive("power", "an exponent", exponent);
  }

  template <real_scalar S>
  S operator()(S u) const {
    check(u);
    return std::pow(u, static_cast<S>(exponent));
  }
};

/// Φ given by its values at knots: a computed optimum, or anything measured. Plain data, to be saved and read back.
/// Between knots a straight line; or, where the slopes are given too, the cubic that has them.
///
/// u: at least 2 knots, strictly increasing from 0 to 1. value, and slope if any: as many, finite. Cost: a binary
/// search. Throws where they are not so (found by `transform` and `|`, not by a single call, which would cost a pass
/// over the table).
struct tabulated {
  array<double> u;
  array<double> value;
  array<double> slope = {};

  template <real_scalar S>
  void check(S) const {
    if (u.size() < 2) detail::fail("tabulated", "at least 2 knots", detail::text(u.size()));
    detail::check_size("tabulated", "values, one for each knot", u.size(), value.size());
    if (slope.size() > 0) detail::check_size("tabulated", "slopes, one for each knot", u.size(), slope.size());
    for (Eigen::Index i = 0; i < u.size(); ++i) {
      if (!detail::is_finite(u[i]) || (i > 0 && u[i] <= u[i - 1]))
        detail::fail("tabulated", "strictly increasing knots", detail::text(u[i], detail::at(i)));
      if (!detail::is_finite(static_cast<S>(value[i])))
        detail::fail("tabulated", detail::text("values within the range of ", detail::name_of<S>),
                     detail::text(value[i], detail::at(i)));
      if (slope.size() > 0 && !detail::is_finite(slope[i]))
        detail::fail("tabulated", "finite slopes", detail::text(slope[i], detail::at(i)));
    }
    if (u[0] != 0 || u[u.size() - 1] != 1)
      detail::fail("tabulated", "knots from 0 to 1", detail::text(u[0], " to ", u[u.size() - 1]));
  }

  template <real_scalar S>
  S operator()(S x) const {
    const double* const first = u.data();
    // The cell with u[i − 1] ≤ x < u[i], the last one closed.
    const auto i = std::upper_bound(first + 1, first + u.size() - 1, static_cast<double>(x)) - first;
    const double width = u[i] - u[i - 1], rise = value[i] - value[i - 1];
    const double w = (static_cast<double>(x) - u[i - 1]) / width;
    double y = std::lerp(value[i - 1], value[i], w);  // exact at both ends, and never past them
    if (slope.size() > 0) y += w * (1 - w) * ((1 - w) * (slope[i - 1] * width - rise) - w * (slope[i] * width - rise));
    return static_cast<S>(y);
  }
};

static_assert(reward_transform<identity> && reward_transform<logarithm> && reward_transform<exponential>);
static_assert(reward_transform<normalized_exponential> && reward_transform<power> && reward_transform<tabulated>);

namespace detail {

/// The transform's own check of its parameters, where it has one.
template <real_scalar S, reward_transform F>
void check_transform(const F& phi) {
  if constexpr (requires { phi.check(S{}); }) phi.check(S{});
}

/// Whether a transform is to be fed with [0, 1] only.
enum class domain { any, calibrated };

/// Φ of one value, if it is scored. NaN stays NaN, or throws.
template <real_scalar S, reward_transform F>
S transformed(S u, const F& phi, domain takes, unscored policy, Eigen::Index i, Eigen::Index columns) {
  if (is_nan(u)) {
    if (policy == unscored::error) fail("transform", "rewards that are numbers", text("NaN", place(i, columns)));
    return u;
  }
  if (takes == domain::calibrated && (u < 0 || u > 1))
    fail("transform", "calibrated rewards in [0, 1]", text(u, place(i, columns)));
  const S y = static_cast<S>(phi(u));
  if (!is_finite(y)) fail("transform", "a finite value of the transform", text(y, " for ", u, place(i, columns)));
  return y;
}

/// out[i] = Φ(in[i]) for i = first .. end − 1; `out` may be `in`.
template <real_scalar S, reward_transform F>
void apply_transform(const S* in, S* out, Eigen::Index first, Eigen::Index end, Eigen::Index columns, const F& phi,
                     domain takes, unscored policy) {
  Eigen::Index i = first;
  const auto one_by_one = [&](Eigen::Index stop) {
    for (; i < stop; ++i) out[i] = transformed(in[i], phi, takes, policy, i, columns);
  };
  constexpr int N = 256 / sizeof(S);  // numbers at a time
  if constexpr (requires { phi.template many<N>(in, out); }) {
    S copy[N];
    while (i + N <= end) {
      const S* u = in + i;
      if (in == out) u = std::copy_n(u, N, copy) - N;
      if (phi.template many<N>(u, out + i)) {
        i += N;
      } else {  // what is out of order is told number by number
        if (in == out) std::copy_n(copy, N, out + i);
        one_by_one(i + N);
      }
    }
  }
  one_by_one(end);
}

/// out[i] = Φ(in[i]) for all, which may be the same buffer.
template <real_scalar S, reward_transform F>
void apply_transform(const S* in, S* out, Eigen::Index size, Eigen::Index columns, const F& phi, domain takes,
                     unscored policy) {
  check_transform<S>(phi);
  for_each_piece(size, static_cast<double>(size), [&](Eigen::Index first, Eigen::Index end) {
    apply_transform(in, out, first, end, columns, phi, takes, policy);
  });
}

/// out = Φ(u), read in place where u lies there as it will lie in `out`.
template <array_expression U, class Out, reward_transform F>
void apply_transform(const U& u, Out& out, const F& phi, unscored policy) {
  using S = typename U::Scalar;
  const Eigen::Index columns = vector_expression<U> ? 0 : out.cols();
  const S* in = out.data();
  if constexpr ((int(U::Flags) & Eigen::DirectAccessBit) != 0)
    if (u.innerStride() == 1 && (vector_expression<U> || (U::IsRowMajor && u.outerStride() == u.cols()))) in = u.data();
  if (in == out.data()) {
    if constexpr (vector_expression<U>)
      out = as_column(u);
    else
      out = as_array(u);
  }
  apply_transform(in, out.data(), out.size(), columns, phi, domain::calibrated, policy);
}

}  // namespace detail

/// Transforms calibrated rewards: result = Φ(u), number by number; a matrix for a matrix, a column for a flat batch.
///
/// u: any Eigen expression of numbers in [0, 1]. NaN: an error, or with `unscored::carry` handed through. Throws where
/// u is outside [0, 1] (a reward that was not calibrated) and where Φ(u) is not finite (a logarithm at 0).
template <array_expression U, reward_transform F>
detail::batch_like<U> transform(const U& u, const F& phi, unscored policy = unscored::error) {
  detail::batch_like<U> result;
  if constexpr (vector_expression<U>)
    result.resize(u.size());
  else
    result.resize(u.rows(), u.cols());
  detail::apply_transform(u, result, phi, policy);
  return result;
}

/// `transform` into the caller's buffer, P × M or B, which may be u itself: nothing is allocated. When it throws, the
/// buffer holds anything.
template <array_expression U, reward_transform F>
requires(!vector_expression<U>) void transform_into(row_major_buffer<typename U::Scalar> result, const U& u,
                                                    const F& phi, unscored policy = unscored::error) {
  detail::check_result("transform_into", result, u.rows(), u.cols());
  detail::apply_transform(u, result, phi, policy);
}
template <vector_expression U, reward_transform F>
void transform_into(Eigen::Ref<array<typename U::Scalar>> result, const U& u, const F& phi,
                    unscored policy = unscored::error) {
  detail::check_result("transform_into", result, u.size(), 1);
  detail::apply_transform(u, result, phi, policy);
}

// Composition: transform | transform …

/// Two transforms as one: u ↦ second(first(u)).
template <reward_transform First, reward_transform Second>
class transform_chain {
 public:
  transform_chain(First first, Second second) : first_(std::move(first)), second_(std::move(second)) {}

  template <real_scalar S>
  void check(S) const {
    detail::check_transform<S>(first_);
    detail::check_transform<S>(second_);
  }

  template <real_scalar S>
  S operator()(S u) const {
    return static_cast<S>(second_(static_cast<S>(first_(u))));
  }

 private:
  First first_;
  Second second_;
};

/// transform | transform: one transform.
template <reward_transform First, reward_transform Second>
transform_chain<First, Second> operator|(First first, Second second) {
  return {std::move(first), std::move(second)};
}

}  // namespace infalign
