// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/transform/transform.hpp>

#include <concepts>
#include <utility>

#include <infalign/detail/begin.hpp>

/// \file
/// Shaped rewards: calibration | transform | transform ..., as one functor.
namespace INFALIGN_NAMESPACE {

namespace detail {

template <class C>
concept calibrates = requires(const C& c, const matrix<typename C::Scalar>& rewards) {
  { c(rewards) } -> std::same_as<matrix<typename C::Scalar>>;
};
template <class C>
concept calibrates_several = C::rewards >
1;

}  // namespace detail

/// A functor from rewards to calibrated rewards of the same scalar type: `calibration`, `joint_calibration`, which takes
/// `C::rewards` batches of rewards, or a user's own.
template <class C>
concept reward_calibration = real_scalar<typename C::Scalar> &&(detail::calibrates<C> || detail::calibrates_several<C>);

/// Rewards for training: calibrated, then transformed.
///
/// It is called as its calibration is: `shape(rewards)` (P × M), or `shape(prompt, rewards)` (a flat batch); with several
/// rewards for a `joint_calibration`.
///
/// NaN: as in the calibration; the transform propagates it.
/// Errors: the constructor checks the parameters of Φ; a call throws what its stages throw.
template <reward_calibration Calibration, reward_transform F>
class reward_shaping {
 public:
  /// float or double.
  using Scalar = typename Calibration::Scalar;

  /// A calibration and the transform that follows it.
  reward_shaping(Calibration calibration, F phi)
      : calibration_(std::move(calibration)), phi_(detail::checked<Scalar>(std::move(phi))) {}

  /// Shapes `rewards` or `prompt, rewards`.
  template <class... Batch>
  requires std::invocable<const Calibration&, const Batch&...>
  auto operator()(const Batch&... batch) const {
    auto values = calibration_(batch...);
    transform(values);
    return values;
  }

  /// Writes to the caller's buffer, which may be that of the rewards.
  ///
  /// Shapes: result has the shape of the rewards; its rows are contiguous.
  /// Cost: no allocation.
  /// Errors: if it throws, the buffer's contents are unspecified.
  template <class Result, class... Batch>
  requires detail::result_buffer<Result>
  void into(Result&& result, Batch&&... batch) const {
    calibration_.into(result, batch...);
    transform(result);
  }

  /// shaping | transform: one more transform at its end.
  template <reward_transform Next>
  friend auto operator|(reward_shaping shaping, Next next) {
    return reward_shaping<Calibration, transform_chain<F, Next>>(std::move(shaping.calibration_),
                                                                 {std::move(shaping.phi_), std::move(next)});
  }

 private:
  template <class Values>
  void transform(Values& values) const {
    const detail::transform_call how{
        {"transform", unscored::propagate}, detail::domain::any, vector_expression<Values> ? 0 : values.cols()};
    const auto rows = detail::rows_in_memory<Scalar>("transform", values);
    detail::transform_rows<Scalar>(how, phi_, rows, rows);
  }

  Calibration calibration_;
  F phi_;
};

/// calibration | transform: a `reward_shaping`.
template <reward_calibration Calibration, reward_transform F>
reward_shaping<Calibration, F> operator|(Calibration calibration, F phi) {
  return {std::move(calibration), std::move(phi)};
}

}  // namespace INFALIGN_NAMESPACE

#include <infalign/detail/end.hpp>
