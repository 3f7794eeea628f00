// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/transform.hpp>

#include <utility>

/// Shaped rewards: calibration | transform | transform …, as one functor.
namespace infalign {

/// A functor from rewards to calibrated rewards of the same scalar type: `calibration`, or a user's own.
template <class C>
concept reward_calibration = real_scalar<typename C::Scalar> &&
    requires(const C& c, const matrix<typename C::Scalar>& rewards) {
  { c(rewards) } -> std::same_as<matrix<typename C::Scalar>>;
};

/// Rewards as the model is trained on them: calibrated, then transformed. Called as its calibration is: with rewards
/// (P × M), or with a prompt index and a flat batch. Throws what its stages throw; the parameters of Φ are checked when
/// it is made.
template <reward_calibration Calibration, reward_transform F>
class reward_shaping {
 public:
  using Scalar = typename Calibration::Scalar;

  reward_shaping(Calibration calibration, F phi) : calibration_(std::move(calibration)), phi_(std::move(phi)) {
    detail::check_transform<Scalar>(phi_);
  }

  template <class... Batch>
  requires std::invocable<const Calibration&, const Batch&...>
  auto operator()(const Batch&... batch) const {
    auto values = calibration_(batch...);
    transform(values);
    return values;
  }

  /// The same into the caller's buffer, P × M or B: nothing is allocated. It may be the rewards' own. When it throws, it
  /// holds anything.
  template <class R>
  requires(!prompt_index<R> || array_expression<R>) void into(row_major_buffer<Scalar> result, const R& rewards) const {
    calibration_.into(result, rewards);
    if (result.outerStride() == result.cols()) return transform(result);
    for (Eigen::Index p = 0; p < result.rows(); ++p) {
      row_major_buffer<Scalar> row = result.middleRows(p, 1);
      transform(row);
    }
  }
  template <prompt_index I, vector_expression R>
  void into(Eigen::Ref<array<Scalar>> result, const I& prompt, const R& rewards) const {
    calibration_.into(result, prompt, rewards);
    transform(result);
  }

  /// The same with one more transform at its end.
  template <reward_transform Next>
  friend auto operator|(reward_shaping shaping, Next next) {
    return reward_shaping<Calibration, transform_chain<F, Next>>(std::move(shaping.calibration_),
                                                                 {std::move(shaping.phi_), std::move(next)});
  }

 private:
  /// Φ of numbers that lie next to each other.
  template <class Values>
  void transform(Values& values) const {
    detail::apply_transform(values.data(), values.data(), values.size(), vector_expression<Values> ? 0 : values.cols(),
                            phi_, detail::domain::any, unscored::carry);
  }

  Calibration calibration_;
  F phi_;
};

/// calibration | transform: a `reward_shaping`.
template <reward_calibration Calibration, reward_transform F>
reward_shaping<Calibration, F> operator|(Calibration calibration, F phi) {
  return {std::move(calibration), std::move(phi)};
}

}  // namespace infalign
