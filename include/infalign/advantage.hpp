// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/groups.hpp>
#include <infalign/workspace.hpp>

#include <algorithm>
#include <cmath>
#include <utility>

/// Advantages: rewards less what the other responses to the same prompt lead one to expect.
///
/// One rule for all of them: unscored (NaN) responses are left out of their siblings' advantages and get exactly 0; so
/// does every response of a group with fewer scored ones than the baseline needs, and, where the baseline compares
/// siblings, of a group of equals. A P × M matrix with M below that need, where nothing could ever be learnt, is an
/// error; and so is an advantage that is not finite.
namespace infalign {

/// A baseline: a function from the M scored rewards of one group to their M advantages, as Eigen vectors.
///
/// Optional members: `smallest_group()`, the M it needs (1 if absent); `static constexpr bool linear = true`, if the
/// advantages of a sum are the sum of the advantages (a KL term in the reward then passes through it, else it is added
/// afterwards); `check()`, which refuses its parameters; `into(result, rewards, workspace*)`, which writes the
/// advantages and takes what memory it needs from the workspace, where there is one.
template <class B>
concept group_baseline = requires(const B& baseline, Eigen::Map<const array<float>> f,
                                  Eigen::Map<const array<double>> d) {
  requires vector_expression<std::remove_cvref_t<decltype(baseline(f))>>;
  requires vector_expression<std::remove_cvref_t<decltype(baseline(d))>>;
};

/// The mean of the whole batch as a baseline; as it depends on the response itself, the gradient is 1 − 1/B of the full
/// one. A shard's caller supplies the mean over all shards (the step's `reduce`).
struct batch_mean {
  static constexpr bool linear = true;
};

/// A `group_baseline`, or `batch_mean`.
template <class B>
concept advantage_baseline = std::same_as<B, batch_mean> || group_baseline<B>;

namespace detail {

template <class B>
inline constexpr bool linear = [] {
  if constexpr (requires { B::linear; })
    return bool(B::linear);
  else
    return false;
}();

// Their types are said where they are used, so that nobody has to compile a baseline to know what it returns. (Eigen's
// cast to the same type is a reference.)
template <class R>
using shifted_of = std::remove_cvref_t<decltype(std::declval<const R&>().template cast<double>() - double{})>;
template <class R>
using affine_of = std::remove_cvref_t<
    decltype((double{} * std::declval<shifted_of<R>>() + double{}).template cast<typename R::Scalar>())>;

/// r_i − r_0 in double: rewards that are all equal are all exactly 0.
template <class R>
shifted_of<R> shifted(const R& r) {
  return r.template cast<double>() - static_cast<double>(r[0]);
}

/// scale·(r_i − r_0) + shift.
template <class R>
affine_of<R> affine(const R& r, double scale, double shift) {
  return (scale * shifted(r) + shift).template cast<typename R::Scalar>();
}

}  // namespace detail

/// A_i = R_i. Unbiased, of high variance.
struct no_baseline {
  static constexpr bool linear = true;
  template <vector_expression R>
  R operator()(const R& r) const {
    return r;
  }
};

/// A_i = R_i − mean of the group. The gradient is 1 − 1/M of the full one, because the mean holds R_i itself.
struct group_mean {
  static constexpr bool linear = true;
  static int smallest_group() { return 2; }
  template <vector_expression R>
  detail::affine_of<R> operator()(const R& r) const {
    return detail::affine(r, 1, -detail::shifted(r).sum() / static_cast<double>(r.size()));
  }
};

/// A_i = R_i − mean of the other M − 1. Unbiased: the baseline does not depend on response i. (RLOO: Kool, van Hoof and
/// Welling, 2019; Ahmadian et al., arXiv:2402.14740.)
struct leave_one_out {
  static constexpr bool linear = true;
  static int smallest_group() { return 2; }
  template <vector_expression R>
  detail::affine_of<R> operator()(const R& r) const {
    const double others = std::max(1.0, static_cast<double>(r.size()) - 1);
    return detail::affine(r, (others + 1) / others, -detail::shifted(r).sum() / others);
  }
};

/// A_i = (R_i − mean) / (s + epsilon), s the sample standard deviation of the group (n − 1), as in GRPO
/// (arXiv:2402.03300). Changes the objective: groups of little spread count as much as those of large. Throws for
/// epsilon < 0 or not finite.
struct group_standardized {
  double epsilon = 1e-4;
  static int smallest_group() { return 2; }

  void check() const {
    if (!detail::is_finite(epsilon) || epsilon < 0)
      detail::fail("group_standardized", "epsilon finite and at least 0", detail::text(epsilon));
  }

  template <vector_expression R>
  detail::affine_of<R> operator()(const R& r) const {
    const double n = static_cast<double>(r.size()), size = detail::shifted(r).abs().maxCoeff();
    if (!(size > 0)) return detail::affine(r, 0, 0);
    const double mean = detail::shifted(r).sum() / size / n;  // of differences of size 1, whose squares are in range
    const double squares = (detail::shifted(r) / size - mean).square().sum();
    const double scale = 1 / (std::sqrt(squares / (n - 1)) + epsilon / size);
    return detail::affine(r, scale / size, -scale * mean);
  }
};

static_assert(group_baseline<no_baseline> && group_baseline<group_mean> && group_baseline<leave_one_out> &&
              group_baseline<group_standardized>);

namespace detail {

template <class B>
void check_baseline(const B& baseline) {
  if constexpr (requires { baseline.check(); }) baseline.check();
}

template <class B>
Eigen::Index smallest_group(const B& baseline) {
  if constexpr (requires { baseline.smallest_group(); })
    return baseline.smallest_group();
  else
    return 1;
}

/// The advantages of a batch whose groups are known. `mean`: of all scored rewards, for `batch_mean`.
template <real_scalar S, advantage_baseline B>
void advantages(const char* function, const S* rewards, S* result, const groups& g, const B& baseline, double mean,
                workspace* space) {
  check_baseline(baseline);
  if constexpr (std::same_as<B, batch_mean>) {
    for (Eigen::Index i = 0; i < g.size(); ++i)
      result[i] = is_nan(rewards[i]) ? S{0} : static_cast<S>(static_cast<double>(rewards[i]) - mean);
  } else {
    const auto needed = smallest_group(baseline);
    if (g.columns() > 0 && g.columns() < needed)
      fail(function, text("at least ", needed, " responses to each prompt for this baseline"),
           text(g.columns(), " (columns of the rewards)"));
    g.apply(rewards, result, S{0}, [&](Eigen::Map<const array<S>> group, Eigen::Map<array<S>> out, Eigen::Index) {
      if (group.size() < needed) {
        out.setZero();
        return;
      }
      if constexpr (requires { baseline.into(out, group, space); }) {
        baseline.into(out, group, space);
      } else {
        const auto& given = baseline(group);
        check_size(function, "advantages from the baseline, one for each reward of its group", group.size(),
                   given.size());
        out = as_column(given);
      }
    });
  }
  for (Eigen::Index i = 0; i < g.size(); ++i)
    if (!is_finite(result[i])) fail(function, "finite advantages", text(result[i], place(i, g.columns())));
}

/// Mean of the scored, in double.
template <real_scalar S>
double scored_mean(const S* rewards, Eigen::Index size) {
  double sum = 0;
  Eigen::Index scored = 0;
  for (Eigen::Index i = 0; i < size; ++i)
    if (!is_nan(rewards[i])) sum += static_cast<double>(rewards[i]), ++scored;
  return scored > 0 ? sum / static_cast<double>(scored) : 0;
}

/// Throws where a reward is infinite, or NaN unless that is carried: what is trained on must be a number.
template <real_scalar S>
void check_trainable(const char* function, const S* rewards, Eigen::Index size, Eigen::Index columns, unscored policy) {
  check_scored(function, rewards, size, columns, policy);
  for (Eigen::Index i = 0; i < size; ++i)
    if (!is_finite(rewards[i]) && !is_nan(rewards[i]))
      fail(function, "finite rewards", text(rewards[i], place(i, columns)));
}

/// The advantages of a batch whose rewards stand where its advantages will.
template <real_scalar S, advantage_baseline B>
void advantages_in_place(S* values, const groups& g, const B& baseline, unscored policy, workspace* space) {
  check_trainable("advantage", values, g.size(), g.columns(), policy);
  advantages("advantage", values, values, g, baseline, scored_mean(values, g.size()), space);
}

/// The advantages of P × M rewards and of a flat batch, with memory of the workspace, where there is one.
template <array_expression R, advantage_baseline B>
void advantages_into(matrix<typename R::Scalar>& result, workspace* space, const R& rewards, const B& baseline,
                     unscored policy) {
  result = as_array(rewards);
  advantages_in_place(result.data(), groups::rows(result.rows(), result.cols(), space), baseline, policy, space);
}
template <prompt_index I, vector_expression R, advantage_baseline B>
void advantages_into(array<typename R::Scalar>& result, workspace* space, const I& prompt, const R& rewards,
                     const B& baseline, unscored policy) {
  check_size("advantage", "prompt indices, one for each reward", rewards.size(),
             static_cast<Eigen::Index>(prompt.size()));
  result = as_column(rewards);
  scratch<Eigen::Index> memory(space, static_cast<Eigen::Index>(groups::memory_for(result.size())));
  advantages_in_place(result.data(), groups::by(prompt, memory.data(), space), baseline, policy, space);
}

}  // namespace detail

/// The advantages of P × M rewards, row p the responses to prompt p. Returns P × M. Throws for an infinite reward, and
/// for NaN unless it is carried.
template <array_expression R, advantage_baseline B>
matrix<typename R::Scalar> advantage(const R& rewards, const B& baseline, unscored policy = unscored::error) {
  matrix<typename R::Scalar> result;
  detail::advantages_into(result, nullptr, rewards, baseline, policy);
  return result;
}

/// The advantages of a flat batch: rewards[i] belongs to the group of all responses with its prompt index. Returns B.
template <prompt_index I, vector_expression R, advantage_baseline B>
array<typename R::Scalar> advantage(const I& prompt, const R& rewards, const B& baseline,
                                    unscored policy = unscored::error) {
  array<typename R::Scalar> result;
  detail::advantages_into(result, nullptr, prompt, rewards, baseline, policy);
  return result;
}

/// `advantage` into the caller's buffer, which may be the rewards themselves. When it throws, it holds anything.
template <array_expression R, advantage_baseline B>
void advantage_into(matrix<typename R::Scalar>& result, workspace& space, const R& rewards, const B& baseline,
                    unscored policy = unscored::error) {
  detail::advantages_into(result, &space, rewards, baseline, policy);
}
template <prompt_index I, vector_expression R, advantage_baseline B>
void advantage_into(array<typename R::Scalar>& result, workspace& space, const I& prompt, const R& rewards,
                    const B& baseline, unscored policy = unscored::error) {
  detail::advantages_into(result, &space, prompt, rewards, baseline, policy);
}

}  // namespace infalign
