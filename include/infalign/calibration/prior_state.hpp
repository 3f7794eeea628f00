// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/calibration/reference.hpp>
#include <infalign/detail/pooled_cdf.hpp>

#include <cstddef>
#include <optional>
#include <vector>

#include <infalign/detail/begin.hpp>

/// \file
/// What a prior has learnt from, as plain data.
namespace INFALIGN_NAMESPACE {

/// What prompts are assumed to share.
///
/// `pooled`: the distribution of the rewards. G is the CDF of the rewards of all prompts.
///
/// `location`: the distribution, but for a shift. Rewards become normal scores x = N⁻¹(F̄(r)), where F̄ is the pooled
/// CDF and N the normal CDF. There a prompt has a level with the variance τ² between prompts, and its rewards vary about
/// it with the variance σ². With x̄ the mean of its K reference rewards, G is the predictive distribution:
///
///     G(r) = N((x − m)/s),  m = μ + B·(x̄ − μ),  B = τ²/(τ² + σ²/K),  s² = σ² + τ²·(1 − B)
///
/// `location_scale`: the shape of the distribution only. G is the CDF of the residuals (r − r̄_p)/(s_p·√(1 + 1/K)) of all
/// prompts, each from the mean and standard deviation of the prompt's other rewards. A prompt with fewer than 2
/// reference rewards, or infinite ones, has the pooled prior.
///
/// The first two do not change if one increasing function is applied to all rewards. The last does not change if a
/// prompt's rewards are scaled and shifted.
enum class prior_model { pooled, location, location_scale };

/// All that a `calibration_prior` has learnt from, as plain data, to save and restore it.
template <real_scalar S>
struct prior_state {
  std::vector<S> value;                  ///< Rewards at which the pooled CDF is held, increasing.
  std::vector<double> below;             ///< The weight of the rewards below each.
  std::vector<double> at_most;           ///< The weight of the rewards at most as large.
  double total = 0;                      ///< The weight of all rewards.
  double pairs = 0;                      ///< The weight of the pairs of rewards of one prompt.
  std::vector<S> kept;                   ///< Scored rewards of some of the prompts, one prompt after another.
  std::vector<Eigen::Index> offsets{0};  ///< Where each of these prompts starts, and the end.
  Eigen::Index prompts = 0;              ///< The number of prompts so far.
  Eigen::Index every = 1;                ///< One in how many prompts is kept.
  std::optional<prior_model> model;      ///< The model, if it is not to be chosen.
  std::optional<double> weight;          ///< The weight a, if it is not to be learnt.
};

namespace detail {

/// Adds rows to a state: pooled in pieces that are sorted together.
template <real_scalar S>
class prior_collector {
 public:
  explicit prior_collector(prior_state<S>& state) : state_(state) {
    cdf_.value.swap(state.value), cdf_.below.swap(state.below), cdf_.at_most.swap(state.at_most);
    cdf_.total = state.total;
  }

  /// Pools the last rows and gives the CDF back to the state.
  void finish() {
    pool();
    cdf_.value.swap(state_.value), cdf_.below.swap(state_.below), cdf_.at_most.swap(state_.at_most);
    state_.total = cdf_.total;
  }

  void add(Eigen::Map<const array<S>> row) {
    const std::size_t before = piece_.size();
    for (const S r : row)
      if (!is_nan(r)) piece_.push_back(r);
    const std::size_t count = piece_.size() - before;
    if (count == 0) return;
    state_.pairs += 0.5 * static_cast<double>(count) * static_cast<double>(count - 1);
    if (state_.prompts++ % state_.every == 0) {
      state_.kept.insert(state_.kept.end(), piece_.begin() + static_cast<std::ptrdiff_t>(before), piece_.end());
      state_.offsets.push_back(static_cast<Eigen::Index>(state_.kept.size()));
      thin();
    }
    if (piece_.size() >= 65536) pool();
  }

 private:
  static constexpr Eigen::Index most_rows = 4096, most_kept = Eigen::Index{1} << 19;

  void pool() {
    sort_numbers(piece_);
    cdf_.add_sorted(piece_);
    piece_.clear();
  }

  /// Drops every second kept prompt, if there are too many.
  void thin() {
    const auto rows = state_.offsets.size() - 1;
    if (rows < 2 || (static_cast<Eigen::Index>(rows) <= most_rows && state_.offsets.back() <= most_kept)) return;
    std::vector<S> kept;
    std::vector<Eigen::Index> offsets{0};
    for (std::size_t p = 0; p < rows; p += 2) {
      kept.insert(kept.end(), state_.kept.begin() + state_.offsets[p], state_.kept.begin() + state_.offsets[p + 1]);
      offsets.push_back(static_cast<Eigen::Index>(kept.size()));
    }
    state_.kept.swap(kept);
    state_.offsets.swap(offsets);
    state_.every *= 2;
  }

  prior_state<S>& state_;
  pooled_cdf<S> cdf_;
  std::vector<S> piece_;
};

/// Drops all but the last kept prompts.
template <real_scalar S>
void keep_last(prior_state<S>& state, Eigen::Index rows) {
  auto& offsets = state.offsets;
  const auto drop = static_cast<Eigen::Index>(offsets.size()) - 1 - rows;
  if (drop <= 0) return;
  const Eigen::Index first = offsets[static_cast<std::size_t>(drop)];
  state.kept.erase(state.kept.begin(), state.kept.begin() + first);
  offsets.erase(offsets.begin(), offsets.begin() + drop);
  for (auto& o : offsets) o -= first;
}

/// Throws unless the parts of a state fit together.
template <real_scalar S>
void check_state(const prior_state<S>& s) {
  bool right = s.value.size() == s.below.size() && s.value.size() == s.at_most.size() && !s.offsets.empty() &&
               s.offsets.front() == 0 && s.offsets.back() == static_cast<Eigen::Index>(s.kept.size()) && s.every > 0;
  for (std::size_t k = 0; right && k < s.value.size(); ++k)
    right = !is_nan(s.value[k]) && s.below[k] <= s.at_most[k] && s.at_most[k] <= s.total * (1 + 1e-9) &&
            (k == 0 || (s.value[k - 1] < s.value[k] && s.at_most[k - 1] <= s.below[k] * (1 + 1e-9)));
  for (std::size_t p = 1; right && p < s.offsets.size(); ++p) right = s.offsets[p - 1] <= s.offsets[p];
  if (!right) fail("calibration_prior", "a state that was saved", "one that does not fit together");
}

}  // namespace detail
}  // namespace INFALIGN_NAMESPACE

#include <infalign/detail/end.hpp>
