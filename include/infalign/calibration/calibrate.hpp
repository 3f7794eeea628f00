// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/calibration/rank.hpp>
#include <infalign/calibration/reference.hpp>
#include <infalign/detail/counting.hpp>

#include <utility>

#include <infalign/detail/begin.hpp>

/// \file
/// Calibrated rewards: the rank of each reward among the reference policy's rewards for the same prompt.
///
///     C(x, y) = E over z ~ π_ref( · | x) of [ 1{r(z) < r(y)} + ½·1{r(z) = r(y)} ]            (InfAlign, section 3)
///
/// C is estimated from K reference rewards by two counts, `below` = #{z < r} and `tied` = #{z = r}. Under the reference
/// policy C is uniform on [0, 1] for every prompt, whatever the scale and skew of the reward. A strictly increasing map
/// of the rewards does not change it, bit for bit. ±inf are ordinary rewards.
namespace INFALIGN_NAMESPACE {

namespace detail {

/// Replaces the rewards of a batch by their ranks.
template <reference_rewards T, class Prompts, real_scalar S, rank_functor Rank = mid_rank>
void calibrate_rows(const T& reference, const rows_view<S>& rewards, const Prompts& prompts, const Rank& rank = {},
                    unscored on_unscored = unscored::error) {
  check_part(rank);
  count_batch({"calibrate", on_unscored}, reference, prompts, rewards, calls::any,
              [&](S* r, int n, Eigen::Index, const auto& counts, Eigen::Index scored) {
                write_ranks(rank, counts, n, 0, scored, r, r);
              });
}

}  // namespace detail

/// Writes calibrated rewards to the caller's buffer. See `calibrate`.
///
///     calibrate_into(result, reference, rewards, rank = mid_rank{}, on_unscored = unscored::error)
///     calibrate_into(result, reference, prompt, rewards, rank = mid_rank{}, on_unscored = unscored::error)
///
/// Shapes: result has the shape of the rewards, P × M or B; its rows are contiguous. It may be the rewards' own buffer.
/// Cost: no allocation.
/// Errors: as `calibrate`, and if the result shares memory with the reference, or with the rewards in other places; if it
/// throws, the buffer's contents are unspecified.
template <class Result, reference_rewards T, class... Batch>
requires detail::result_buffer<Result> && detail::batch_arguments<Batch...>
void calibrate_into(Result&& result, const T& reference, const Batch&... batch) {
  decltype(auto) table = detail::rows_of(reference);  // an expression is evaluated before the result is written to
  detail::check_apart_from_reference("calibrate_into", result, table);
  detail::replaced_into(
      "calibrate", "calibrate_into", result, [&](const auto&... call) { detail::calibrate_rows(table, call...); },
      batch...);
}

/// Calibrates a batch: replaces each reward by its rank among the reference rewards of its prompt.
///
///     calibrate(reference, rewards, rank = mid_rank{}, on_unscored = unscored::error)            // P × M
///     calibrate(reference, prompt, rewards, rank = mid_rank{}, on_unscored = unscored::error)    // a flat batch
///
/// Shapes: reference is P × K, or any `reference_table` with P rows. rewards is P × M, or B with B prompt indices in
/// [0, P) in any order; these B may be in a `std::vector` or `std::span`. Returns P × M or B. A column of rewards is P × 1,
/// a row is 1 × M.
/// Range: that of the rank functor.
/// Cost: K comparisons a response; no sort, and no copy of a row-major reference. Equal neighbours in `prompt` cost
/// less.
/// NaN: an error; with `unscored::propagate` a NaN reward has a NaN rank, and a NaN in the reference is left out. If no
/// reference reward of a prompt is left, its ranks are NaN.
/// Errors: if the number of rows differs, an index is out of range, or a prompt has no reference reward.
template <reference_rewards T, class... Batch>
requires detail::batch_arguments<Batch...>
auto calibrate(const T& reference, const Batch&... batch) {
  return detail::replaced(
      "calibrate", [&](const auto&... call) { detail::calibrate_rows(reference, call...); }, batch...);
}

/// `calibrate` with its reference and rank: a functor for a training loop, and the first stage of a shaped reward.
///
///     calibration shape{reference};                 u = shape(rewards);            // P × M
///     calibration shape{reference, add_one_rank{}}; u = shape(prompt, rewards);    // a flat batch
///     auto reward = calibration{reference} | exponential{.t = 10};
///
/// It stores a row-major copy of an Eigen object (moved if possible), a `reference_table` by value, and a row-major
/// `Eigen::Map` or `Eigen::Ref` as a view, whose buffer must outlive the functor. Const calls may run in many threads.
///
/// Errors: the constructor checks the rank's parameters, and the rewards of a matrix that it owns.
template <reference_rewards T, class Rank = mid_rank>
requires std::same_as<T, typename detail::stored_as<T>::type>
class calibration {
  static_assert(rank_functor<Rank>, "infalign::calibration takes a rank functor or a reward prior");

 public:
  /// float or double.
  using Scalar = typename T::Scalar;

  /// reference: P × K, or any `reference_table`.
  explicit calibration(T reference, Rank rank = {}, unscored on_unscored = unscored::error)
      : reference_(std::move(reference)), rank_(detail::checked(std::move(rank))), on_unscored_(on_unscored) {
    if constexpr (std::same_as<T, matrix<Scalar>>) {
      const auto& table = detail::rows_of(reference_);
      for (Eigen::Index p = 0; p < table.rows(); ++p)
        detail::count_scored({"calibration", on_unscored_}, "reference", table.row(p), p);
    }
  }

  /// Calibrates `rewards` or `prompt, rewards`. See `calibrate`.
  template <class... Batch>
  requires detail::batch_arguments<Batch...>
  auto operator()(const Batch&... batch) const { return calibrate(reference_, batch..., rank_, on_unscored_); }

  /// Writes to the caller's buffer. See `calibrate_into`.
  template <class Result, class... Batch>
  requires detail::batch_arguments<Batch...>
  void into(Result&& result, const Batch&... batch) const {
    calibrate_into(result, reference_, batch..., rank_, on_unscored_);
  }

 private:
  T reference_;
  [[no_unique_address]] Rank rank_;
  unscored on_unscored_;
};

/// The type that a functor of this reference has.
template <reference_rewards T>
calibration(T) -> calibration<typename detail::stored_as<T>::type>;
/// The type that a functor of this reference and rank has.
template <reference_rewards T, rank_functor Rank>
calibration(T, Rank, unscored = unscored::error) -> calibration<typename detail::stored_as<T>::type, Rank>;

namespace detail {

/// Any function of one number. It converts from it, so that every other operator| with a transform is a better match.
struct transform_needs_header_infalign_transform_hpp {
  template <class F>
  requires requires(const F& phi, double u) { phi(u); }
  transform_needs_header_infalign_transform_hpp(const F&) {}
};

}  // namespace detail

/// calibration | transform needs <infalign/transform.hpp>. Without it, the compiler's message names this overload.
template <reference_rewards T, class Rank>
void operator|(const calibration<T, Rank>&, const detail::transform_needs_header_infalign_transform_hpp&) = delete;

}  // namespace INFALIGN_NAMESPACE

#include <infalign/detail/end.hpp>
