// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/counting.hpp>
#include <infalign/groups.hpp>
#include <infalign/procedure.hpp>

#include <utility>

/// Calibrated rewards: the place of each reward in the reference policy's reward distribution for its prompt.
///
///     C(x, y) = E over z ~ π_ref( · | x) of [ 1{r(z) < r(y)} + ½·1{r(z) = r(y)} ]            (InfAlign, section 3)
///
/// estimated from K reference rewards by two counts, `below` = #{z < r} and `tied` = #{z = r}. Under the reference
/// policy C is uniform on [0, 1] for every prompt, whatever the scale or skew of the reward; and because it is a count,
/// a strictly increasing map of the rewards leaves it unchanged bit for bit. ±inf are ordinary rewards.
namespace infalign {

// Rank functors: what a reward's place is worth, from its counts.

/// A rank functor: a function of (below, tied, count), with below + tied ≤ count and count ≥ 1, that grows with `below`
/// and with `tied`.
template <class R>
concept rank_functor = requires(const R& rank, Eigen::Index n) {
  { rank(n, n, n) } -> std::convertible_to<double>;
};

/// (below + ½·tied) / count, in [0, 1]: the chance to beat one reference response, ties counting half. The default.
struct mid_rank {
  double operator()(Eigen::Index below, Eigen::Index tied, Eigen::Index count) const {
    return (static_cast<double>(below) + 0.5 * static_cast<double>(tied)) / static_cast<double>(count);
  }
};

/// below / count, in [0, 1]: the share of the reference that is strictly worse. A tie wins nothing.
struct strict_rank {
  double operator()(Eigen::Index below, Eigen::Index, Eigen::Index count) const {
    return static_cast<double>(below) / static_cast<double>(count);
  }
};

/// (below + tied) / count, in [0, 1]: the empirical CDF F(r) itself. A tie wins in full.
struct weak_rank {
  double operator()(Eigen::Index below, Eigen::Index tied, Eigen::Index count) const {
    return static_cast<double>(below + tied) / static_cast<double>(count);
  }
};

/// (below + 1) / (count + 1), in (0, 1]: never 0, so that its logarithm is finite. (Amini, Vieira, Ash and Cotterell,
/// "Variational Best-of-N Alignment", arXiv:2407.06057.)
struct add_one {
  double operator()(Eigen::Index below, Eigen::Index, Eigen::Index count) const {
    return static_cast<double>(below + 1) / static_cast<double>(count + 1);
  }
};

/// ½·(G(below/count) + G((below + tied)/count)), in [0, 1]: the chance to beat what a procedure with CDF G shows of the
/// reference responses, exact with ties. `mid_rank` is its case for plain sampling. Trained on with `max_at_n` against
/// best-of-n, and with `min_at_n` against worst-of-n, it gives the gradient of the inference-time win rate itself.
template <procedure T>
struct win_probability {
  T against;
  explicit win_probability(T t) : against(std::move(t)) {}

  double operator()(Eigen::Index below, Eigen::Index tied, Eigen::Index count) const {
    const double n = static_cast<double>(count);
    return 0.5 * (against.cdf(static_cast<double>(below) / n) + against.cdf(static_cast<double>(below + tied) / n));
  }
};

static_assert(rank_functor<win_probability<best_of>>);
static_assert(rank_functor<mid_rank> && rank_functor<strict_rank> && rank_functor<weak_rank> && rank_functor<add_one>);

// Calibration.

namespace detail {

/// The rank of each of `lanes` rewards among `count`; `own` of its ties are the reward itself. Not inlined, and counted
/// in the lanes' own integers, so that compilers vectorise the loop.
template <real_scalar S, class Rank>
[[gnu::noinline]] void rank_lanes(const Rank& rank, const lane_counts<S>& c, int own, Eigen::Index count,
                                  S* __restrict ranks) {
  for (int j = 0; j < lanes<S>; ++j)
    ranks[j] = static_cast<S>(rank(c.below[j], c.at_most[j] - c.below[j] - own, count));
}

/// Writes the ranks of n rewards that were counted together. A NaN stays.
template <real_scalar S, class Rank>
void write_ranks(const Rank& rank, const lane_counts<S>& c, int n, int own, Eigen::Index count, const S* rewards,
                 S* result) {
  S ranks[lanes<S>];
  if (n == lanes<S>)
    rank_lanes(rank, c, own, count, ranks);
  else
    for (int j = 0; j < n; ++j) ranks[j] = static_cast<S>(rank(c[j].below, c[j].tied - own, count));
  for (int j = 0; j < n; ++j) result[j] = is_nan(rewards[j]) ? rewards[j] : ranks[j];
}

}  // namespace detail

/// `calibrate` into the caller's buffer, P × M or B: nothing is allocated. `result` may be the rewards themselves. When
/// it throws, the buffer holds anything.
template <reference_rewards T, array_expression R, rank_functor Rank = mid_rank>
void calibrate_into(row_major_buffer<typename R::Scalar> result, const T& reference, const R& rewards,
                    const Rank& rank = {}, unscored policy = unscored::error) {
  detail::check_scalars<T, R>();
  detail::check_result("calibrate_into", result, rewards.rows(), rewards.cols());
  result = detail::as_array(rewards);
  detail::count_rows("calibrate", reference, result, policy, detail::calls::any,
                     [&](auto* r, int n, Eigen::Index, const auto& counts, Eigen::Index scored) {
                       detail::write_ranks(rank, counts, n, 0, scored, r, r);
                     });
}
template <reference_rewards T, prompt_index I, vector_expression R, rank_functor Rank = mid_rank>
void calibrate_into(Eigen::Ref<array<typename R::Scalar>> result, const T& reference, const I& prompt, const R& rewards,
                    const Rank& rank = {}, unscored policy = unscored::error) {
  detail::check_scalars<T, R>();
  detail::check_result("calibrate_into", result, rewards.size(), 1);
  result = detail::as_column(rewards);
  detail::count_flat("calibrate", reference, prompt, result, policy, detail::calls::any,
                     [&](auto* r, int n, Eigen::Index, const auto& counts, Eigen::Index scored) {
                       detail::write_ranks(rank, counts, n, 0, scored, r, r);
                     });
}

/// Calibrates M responses to each of P prompts: result(p, m) = rank of rewards(p, m) among row p of the reference.
///
/// reference: P × K, or any `reference_table` with P rows. rewards: P × M, any Eigen expression of the same scalar
/// type. Returns P × M, in the range of the rank functor. Cost: K comparisons a response, no sort and no copy of a
/// row-major reference. NaN: an error, or with `unscored::carry` left out of the reference and handed through in the
/// rewards. Throws where the row counts differ, or where a prompt has no scored reference reward.
template <reference_rewards T, array_expression R, rank_functor Rank = mid_rank>
matrix<typename R::Scalar> calibrate(const T& reference, const R& rewards, const Rank& rank = {},
                                     unscored policy = unscored::error) {
  matrix<typename R::Scalar> result(rewards.rows(), rewards.cols());
  calibrate_into(result, reference, rewards, rank, policy);
  return result;
}

/// Calibrates a flat batch: result[i] = rank of rewards[i] among row prompt[i] of the reference.
///
/// prompt: B indices in [0, P), in any order, each as often as it occurs; neighbours of one prompt cost less. rewards:
/// B. Returns B. Otherwise as above; throws too where an index is out of range.
template <reference_rewards T, prompt_index I, vector_expression R, rank_functor Rank = mid_rank>
array<typename R::Scalar> calibrate(const T& reference, const I& prompt, const R& rewards, const Rank& rank = {},
                                    unscored policy = unscored::error) {
  array<typename R::Scalar> result(rewards.size());
  calibrate_into(result, reference, prompt, rewards, rank, policy);
  return result;
}

namespace detail {

/// Each scored reward of each group ranked among the others of its group.
template <real_scalar S, rank_functor Rank>
void leave_one_out_ranks(S* rewards, const groups& g, const Rank& rank, unscored policy) {
  constexpr auto function = "calibrate_leave_one_out";
  check_scored(function, rewards, g.size(), g.columns(), policy);
  g.apply(rewards, rewards, nan<S>,
          [&](Eigen::Map<const array<S>> group, Eigen::Map<array<S>> ranks, Eigen::Index first) {
            if (group.size() < 2) {
              if (policy == unscored::error)
                fail(function, "at least 2 responses to each prompt", text("1", place(first, g.columns())));
              ranks[0] = nan<S>;
              return;
            }
            const S* const r = group.data();
            count_each(r, group.size(), group.size(), r, group.size(), [&](Eigen::Index i, int n, const auto& c) {
              write_ranks(rank, c, n, 1, group.size() - 1, r + i, ranks.data() + i);
            });
          });
}

/// Of P × M rewards and of a flat batch, with memory of the workspace, where there is one.
template <array_expression R, rank_functor Rank>
void leave_one_out_into(matrix<typename R::Scalar>& result, workspace* space, const R& rewards, const Rank& rank,
                        unscored policy) {
  result = as_array(rewards);
  leave_one_out_ranks(result.data(), groups::rows(result.rows(), result.cols(), space), rank, policy);
}
template <prompt_index I, vector_expression R, rank_functor Rank>
void leave_one_out_into(array<typename R::Scalar>& result, workspace* space, const I& prompt, const R& rewards,
                        const Rank& rank, unscored policy) {
  check_size("calibrate_leave_one_out", "prompt indices, one for each reward", rewards.size(),
             static_cast<Eigen::Index>(prompt.size()));
  result = as_column(rewards);
  scratch<Eigen::Index> memory(space, static_cast<Eigen::Index>(groups::memory_for(result.size())));
  leave_one_out_ranks(result.data(), groups::by(prompt, memory.data(), space), rank, policy);
}

}  // namespace detail

/// Calibrates with no reference table: each response is ranked among the other M − 1 to its prompt. Where they are
/// drawn from the reference policy this is an unbiased C; later it is the place in the current policy's distribution.
///
/// rewards: P × M with M ≥ 2. Returns P × M. Cost: M comparisons a response. NaN as in `calibrate`; a response whose
/// siblings are all carried NaN has nothing to be ranked among, and becomes NaN itself.
template <array_expression R, rank_functor Rank = mid_rank>
matrix<typename R::Scalar> calibrate_leave_one_out(const R& rewards, const Rank& rank = {},
                                                   unscored policy = unscored::error) {
  matrix<typename R::Scalar> result;
  detail::leave_one_out_into(result, nullptr, rewards, rank, policy);
  return result;
}

/// The same for a flat batch: each response is ranked among the others with its prompt index, at least one. The groups
/// may differ in size.
template <prompt_index I, vector_expression R, rank_functor Rank = mid_rank>
array<typename R::Scalar> calibrate_leave_one_out(const I& prompt, const R& rewards, const Rank& rank = {},
                                                  unscored policy = unscored::error) {
  array<typename R::Scalar> result;
  detail::leave_one_out_into(result, nullptr, prompt, rewards, rank, policy);
  return result;
}

/// `calibrate_leave_one_out` into the caller's buffer, P × M or B, which may be the rewards themselves. When it throws,
/// the buffer holds anything.
template <array_expression R, rank_functor Rank = mid_rank>
void calibrate_leave_one_out_into(matrix<typename R::Scalar>& result, workspace& space, const R& rewards,
                                  const Rank& rank = {}, unscored policy = unscored::error) {
  detail::leave_one_out_into(result, &space, rewards, rank, policy);
}
template <prompt_index I, vector_expression R, rank_functor Rank = mid_rank>
void calibrate_leave_one_out_into(array<typename R::Scalar>& result, workspace& space, const I& prompt,
                                  const R& rewards, const Rank& rank = {}, unscored policy = unscored::error) {
  detail::leave_one_out_into(result, &space, prompt, rewards, rank, policy);
}

/// `calibrate` with its reference bound: a functor to call in a training loop, and the first stage of a reward composed
/// with `|`.
///
///     calibration shape{reference};            u = shape(rewards)              // P × M
///     calibration shape{reference, add_one{}}; u = shape(prompt, rewards)      // a flat batch
///
/// Holds a row-major copy of an Eigen object (moved where it can be), a `reference_table` by value, and a row-major
/// `Eigen::Map` or `Eigen::Ref` as the view that it is: its buffer must outlive the functor. A matrix that it owns
/// is checked when it is made, anything else where it is used. Const calls may run in many threads.
template <reference_rewards T, rank_functor Rank = mid_rank>
requires std::same_as<T, typename detail::kept_as<T>::type>
class calibration {
 public:
  using Scalar = typename T::Scalar;

  explicit calibration(T reference, Rank rank = {}, unscored policy = unscored::error)
      : reference_(std::move(reference)), rank_(std::move(rank)), policy_(policy) {
    if constexpr (std::same_as<T, matrix<Scalar>>) {
      const auto& table = detail::rows_of(reference_);
      for (Eigen::Index p = 0; p < table.rows(); ++p)
        detail::count_scored("calibration", "reference", table.row(p).data(), table.row(p).size(), p, policy_);
    }
  }

  template <array_expression R>
  matrix<Scalar> operator()(const R& rewards) const {
    return calibrate(reference_, rewards, rank_, policy_);
  }

  template <prompt_index I, vector_expression R>
  array<Scalar> operator()(const I& prompt, const R& rewards) const {
    return calibrate(reference_, prompt, rewards, rank_, policy_);
  }

  /// The same into the caller's buffer.
  template <array_expression R>
  void into(row_major_buffer<Scalar> result, const R& rewards) const {
    calibrate_into(result, reference_, rewards, rank_, policy_);
  }
  template <prompt_index I, vector_expression R>
  void into(Eigen::Ref<array<Scalar>> result, const I& prompt, const R& rewards) const {
    calibrate_into(result, reference_, prompt, rewards, rank_, policy_);
  }

 private:
  T reference_;
  [[no_unique_address]] Rank rank_;
  unscored policy_;
};

template <reference_rewards T>
calibration(T) -> calibration<typename detail::kept_as<T>::type>;
template <reference_rewards T, rank_functor Rank>
calibration(T, Rank, unscored = unscored::error) -> calibration<typename detail::kept_as<T>::type, Rank>;

}  // namespace infalign
