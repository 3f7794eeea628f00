// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/calibration/calibrate.hpp>
#include <infalign/calibration/rank_combination.hpp>
#include <infalign/detail/groups.hpp>
#include <infalign/detail/scratch.hpp>
#include <infalign/workspace.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <tuple>
#include <utility>

#include <infalign/detail/begin.hpp>

/// \file
/// One calibrated reward from several rewards, such as helpfulness and safety: rank by each, combine the ranks, rank again.
///
/// Which combination is right for what?
///
/// - The policy that maximises Σ w_k·(win rate by reward k) − β·KL, used with one sample, needs no new rank: train on
///   Σ w_k·`calibrate`(reference_k, rewards_k).
/// - Best-of-n and worst-of-n choose by one score. If that score is the combination, `joint_calibration` is its calibrated
///   reward, and all of the theory holds for it: KL, win rates by the combined score, optimal transforms.
/// - `rank_minimum` is for "good in every reward", `rank_product` (the order of Σ log u_k) for "beats a reference response
///   in each", `rank_sum` for a trade of one for another.
namespace INFALIGN_NAMESPACE {

namespace detail {

/// The responses of one prompt, ranked by m rewards.
template <real_scalar S, std::size_t m>
class joint_row {
 public:
  using ranks = Eigen::Array<double, static_cast<int>(m), 1>;

  /// reference[k]: the reference rewards of reward k.
  joint_row(const caller& call, const std::array<Eigen::Map<const array<S>>, m>& reference, Eigen::Index p,
            workspace* space)
      : size_(reference[0].size()),
        value_(space, static_cast<Eigen::Index>(m) * size_),
        among_others_(space, static_cast<Eigen::Index>(m) * size_) {
    for (std::size_t k = 0; k < m; ++k)
      check_size(call.function, "reference rewards, as many as of the first reward", size_, reference[k].size());
    for (Eigen::Index i = 0; i < size_; ++i) {
      bool scored = true;
      for (std::size_t k = 0; k < m; ++k) {
        if (!is_nan(reference[k][i])) continue;
        if (call.on_unscored == unscored::error)
          fail(call.function, "reference rewards that are numbers", concat("NaN", position(p, i), " of reward ", k));
        scored = false;
      }
      for (std::size_t k = 0; k < m && scored; ++k) value_[at(k, count_)] = reference[k][i];
      count_ += scored;
    }
    if (count_ == 0 && call.on_unscored == unscored::error)
      fail(call.function, "at least one reference reward for each prompt", concat("none for prompt ", p));
    // Twice the mid-rank among the other references.
    scratch<S> sorted(space, count_);
    for (std::size_t k = 0; k < m; ++k) {
      std::copy_n(&value_[at(k, 0)], count_, sorted.data());
      std::sort(sorted.begin(), sorted.end());
      for (Eigen::Index i = 0; i < count_; ++i) {
        const auto [low, high] = std::equal_range(sorted.begin(), sorted.end(), value_[at(k, i)]);
        among_others_[at(k, i)] = static_cast<double>((low - sorted.begin()) + (high - sorted.begin()) - 1);
      }
    }
  }

  /// The number of references that are scored by every reward.
  Eigen::Index count() const { return count_; }

  /// The rank of a response by its combined score.
  template <class Combine, class Rank>
  double operator()(const caller& call, const std::array<S, m>& y, const Combine& combine, const Rank& rank) const {
    double unit = 1;
    if constexpr (!requires { requires Combine::scale_free; }) unit = 0.5 / static_cast<double>(count_);
    const auto score = [&](const ranks& twice) {
      const double s = static_cast<double>(combine(ranks(twice * unit)));
      if (is_nan(s)) fail(call.function, "a combination that is a number", "NaN");
      return s;
    };
    ranks own = ranks::Zero();
    for (std::size_t k = 0; k < m; ++k)
      for (Eigen::Index i = 0; i < count_; ++i) own[static_cast<Eigen::Index>(k)] += twice_won(value_[at(k, i)], y[k]);
    const double own_score = score(own);
    Eigen::Index below = 0, tied = 0;
    for (Eigen::Index i = 0; i < count_; ++i) {
      ranks others;
      for (std::size_t k = 0; k < m; ++k)
        others[static_cast<Eigen::Index>(k)] = among_others_[at(k, i)] + twice_won(y[k], value_[at(k, i)]);
      const double s = score(others);
      below += s < own_score, tied += s == own_score;
    }
    const double result = static_cast<double>(rank(below, tied, count_));
    if (!is_finite(result)) fail(call.function, "a finite rank", concat(result));
    return result;
  }

 private:
  /// 2 if x is below y, 1 for a tie, else 0.
  static double twice_won(S x, S y) { return static_cast<double>(x < y) + static_cast<double>(x <= y); }

  /// The place of reference i by reward k.
  Eigen::Index at(std::size_t k, Eigen::Index i) const { return static_cast<Eigen::Index>(k) * size_ + i; }

  Eigen::Index size_, count_ = 0;
  scratch<S> value_;
  scratch<double> among_others_;
};

}  // namespace detail

/// The calibrated reward of a combination of several rewards.
///
///     joint_calibration shape{rank_minimum{}, helpful, harmless};     // reference tables: rewards of the same responses
///     u = shape(helpful_rewards, harmless_rewards);                   // P × M each
///     u = shape(prompt, helpful_flat, harmless_flat);                 // a flat batch
///     auto reward = shape | normalized_exponential{.t = 10};          // reward(helpful_rewards, harmless_rewards)
///
/// A response and its K references are ranked by each reward, each among the K others. A combination h makes one score of
/// its ranks, and the result is the rank of the response by that score. The response and the references are treated alike.
/// So the rank is uniform under the reference policy at every K, with ties and for any dependence between the rewards, as
/// that of `calibration` is; everything that is built on it holds, rank functors without bias included.
///
/// Constructed from a combination, optionally a rank functor and an `unscored`, and one table for each reward. Tables are
/// stored as `calibration` stores them.
///
/// Shapes: tables P × K with equal K for each prompt, or any `reference_table`. All rewards have one scalar type and shape.
/// Range: that of the rank functor.
/// Cost: m·K a response for m rewards, and m·K·log K for each prompt, or run of one prompt in a flat batch. `into` with a
/// workspace does not allocate from the second call on, and runs in one thread.
/// NaN: an error; with `unscored::propagate` a response that has a NaN reward has a NaN rank, and a reference with one is
/// left out.
/// Errors: the constructor checks the parameters of the combination and the rank functor; calls throw what `calibrate`
/// does, and if shapes differ or the combination is NaN.
template <rank_combination Combine, rank_functor Rank, reference_rewards... Tables>
class joint_calibration {
  static constexpr std::size_t m = sizeof...(Tables);
  static_assert(m >= 1, "infalign::joint_calibration: a reference table for each reward");

 public:
  /// float or double.
  using Scalar = typename std::tuple_element_t<0, std::tuple<Tables...>>::Scalar;
  static_assert((std::same_as<Scalar, typename Tables::Scalar> && ...),
                "infalign::joint_calibration: all tables must have the same scalar type");
  /// How many rewards a call takes.
  static constexpr std::size_t rewards = m;

  /// A combination and the reference rewards of each reward.
  explicit joint_calibration(Combine combine, Tables... reference)
      : joint_calibration(std::move(combine), Rank{}, unscored::error, std::move(reference)...) {}
  /// With a rank functor.
  joint_calibration(Combine combine, Rank rank, Tables... reference)
      : joint_calibration(std::move(combine), std::move(rank), unscored::error, std::move(reference)...) {}
  /// With a rank functor and what to do with NaN.
  joint_calibration(Combine combine, Rank rank, unscored on_unscored, Tables... reference)
      : combine_(std::move(combine)),
        rank_(detail::checked(std::move(rank))),
        on_unscored_(on_unscored),
        reference_(std::move(reference)...) {
    if constexpr (requires { combine_.check(Eigen::Index{m}); })
      combine_.check(Eigen::Index{m});
    else
      detail::check_part(combine_);
  }

  /// Calibrates `rewards...` or `prompt, rewards...`, with one batch of rewards for each table.
  template <class... Batch>
  requires detail::batch_arguments<Batch...> &&(sizeof...(Batch) == m || sizeof...(Batch) == m + 1) auto operator()(
      const Batch&... batch) const {
    return detail::with_batch(
        name,
        [this](const auto& prompts, const auto& first, const auto&... more) {
          auto result = detail::make_result(prompts, first);
          this->compute(detail::packed_rows(result.data(), prompts), nullptr, prompts, first, viewed(more)...);
          return result;
        },
        batch...);
  }

  /// Writes to the caller's buffer, which may be that of one of the rewards: into(result, [space,] [prompt,] rewards...).
  template <class Result, class... Args>
  requires detail::result_buffer<Result>
  void into(Result&& result, Args&&... args) const {
    const auto write = [&](workspace* space, const auto&... batch) {
      detail::with_batch(
          name,
          [&](const auto& prompts, const auto& first, const auto&... more) {
            const auto rows = detail::rows_of_result(name, result, prompts);
            std::apply(
                [&](const auto&... table) {
                  (detail::check_apart_from_reference(name, result, detail::rows_of(table)), ...);
                },
                reference_);
            compute(rows, space, prompts, first, viewed(more)...);
          },
          batch...);
    };
    detail::with_workspace(write, args...);
  }

 private:
  static constexpr auto name = "joint_calibration";

  /// The rewards of a `std::vector` as an Eigen object.
  template <class R>
  static decltype(auto) viewed(const R& r) {
    if constexpr (number_range<R>)
      return detail::as_column(r);
    else
      return (r);
  }

  template <class Prompts, class... R>
  void compute(const detail::rows_view<Scalar>& result, workspace* space, const Prompts& prompts,
               const R&... batch) const {
    static_assert(sizeof...(R) == m, "infalign::joint_calibration: a batch of rewards for each table");
    static_assert((std::same_as<Scalar, typename R::Scalar> && ...),
                  "infalign::joint_calibration: rewards and tables must have the same scalar type");
    const detail::caller call{name, on_unscored_};
    const Eigen::Index B = prompts.size();
    detail::scratch<Scalar> values(space, static_cast<Eigen::Index>(m) * B);
    Eigen::Index k = 0;
    const auto copy = [&](const auto& r) {
      const bool same_shape = std::same_as<Prompts, detail::row_prompts>
                                  ? r.rows() == prompts.rows && r.cols() == prompts.columns
                                  : r.size() == prompts.size() && std::min(r.rows(), r.cols()) <= 1;
      if (!same_shape)
        detail::fail(name, detail::concat("rewards of ", prompts.rows, " x ", prompts.columns, ", as the first"),
                     detail::concat(r.rows(), " x ", r.cols(), " for reward ", k));
      const auto rows = detail::packed_rows(values.data() + k++ * B, prompts);
      if (r.rows() == prompts.rows)
        detail::copy_rewards(r, rows);
      else
        detail::copy_rewards(r.transpose(), rows);  // a column of a flat batch
      detail::check_scored(call, prompts, rows);
    };
    (copy(batch), ...);
    std::apply(
        [&](const auto&... table) { rank(call, result, space, prompts, values.data(), detail::rows_of(table)...); },
        reference_);
  }

  template <class Prompts, class... Rows>
  void rank(const detail::caller& call, const detail::rows_view<Scalar>& result, workspace* space,
            const Prompts& prompts, const Scalar* values, const Rows&... tables) const {
    (prompts.check(name, tables.rows()), ...);
    const auto first = detail::packed_rows(values, prompts);
    const double work = space ? 0 : static_cast<double>(prompts.size()) * 1e3;  // 0: in one thread
    prompts.for_each_run(first, work, 0, [&](Eigen::Index p, Eigen::Index, const Scalar* run, Eigen::Index n) {
      const detail::joint_row<Scalar, m> row(call, {tables.row(p)...}, p, space);
      const auto begin = static_cast<Eigen::Index>(run - first.data);
      for (Eigen::Index i = begin; i < begin + n; ++i) {
        std::array<Scalar, m> y;
        bool scored = row.count() > 0;
        for (std::size_t k = 0; k < m; ++k) {
          y[k] = values[static_cast<Eigen::Index>(k) * prompts.size() + i];
          scored = scored && !detail::is_nan(y[k]);
        }
        result.row(i / prompts.columns)[i % prompts.columns] =
            scored ? static_cast<Scalar>(row(call, y, combine_, rank_)) : detail::nan<Scalar>;
      }
    });
  }

  Combine combine_;
  [[no_unique_address]] Rank rank_;
  unscored on_unscored_;
  std::tuple<Tables...> reference_;
};

/// The type that a functor of these tables has.
template <class Combine, reference_rewards... Tables>
joint_calibration(Combine, Tables...)
    -> joint_calibration<Combine, mid_rank, typename detail::stored_as<Tables>::type...>;
/// The type that a functor of this rank and these tables has.
template <class Combine, rank_functor Rank, reference_rewards... Tables>
joint_calibration(Combine, Rank, Tables...)
    -> joint_calibration<Combine, Rank, typename detail::stored_as<Tables>::type...>;
/// As above, with what to do with NaN.
template <class Combine, rank_functor Rank, reference_rewards... Tables>
joint_calibration(Combine, Rank, unscored, Tables...)
    -> joint_calibration<Combine, Rank, typename detail::stored_as<Tables>::type...>;

}  // namespace INFALIGN_NAMESPACE

#include <infalign/detail/end.hpp>
