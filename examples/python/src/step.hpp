// SPDX-License-Identifier: MIT
#pragma once

// The step of parts that are chosen when a program runs. One .cpp for each scalar type compiles all combinations.
#include "parts.hpp"

#include <optional>

namespace infalign::python {

using any_kl = std::variant<no_kl, k1_in_reward, k1_reward_to_go, k2_loss, k3_loss, k2_token_loss, k3_token_loss>;
using any_surrogate = std::variant<reinforce, ppo_clip, sequence_clip, gspo_clip, cispo, regression>;

/// The two means as one type.
struct mean_of_tokens {
  bool by_response;
  double weight(double tokens, const batch_size& total) const {
    return by_response ? sequence_mean_of_token_means{}.weight(tokens, total) : token_mean{}.weight(tokens, total);
  }
};
using any_aggregation = std::variant<sequence_mean_of_token_sums, mean_of_tokens>;

struct any_estimator {
  std::variant<no_baseline, batch_mean, group_mean, leave_one_out, group_standardized, batch_standardized, max_at_n,
               centered_max_at_n, min_at_n, order_weighted, max_rl, callback>
      estimator;

  bool linear() const {
    return std::visit([]<class E>(const E&) { return detail::is_linear<E>; }, estimator);
  }
  bool no_comparison() const { return std::holds_alternative<no_baseline>(estimator); }
  int smallest_group() const {
    return std::visit([](const auto& e) { return static_cast<int>(detail::smallest_group(e)); }, estimator);
  }
  /// The advantages of one group.
  template <real_scalar S>
  array<S> operator()(const Eigen::Map<const array<S>>& group, const reward_moments& of_batch) const {
    return std::visit(
        [&]<class E>(const E& e) -> array<S> {
          using rewards = Eigen::Map<const array<S>>;
          if constexpr (std::same_as<E, callback>) {
            const py::gil_scoped_acquire acquired;
            const auto given = read_rows<S>("advantages", e.function()(copied(group)));
            return given.as_column();
          } else if constexpr (detail::estimates_in_place<E, rewards>) {
            array<S> result(group.size());
            e(group, Eigen::Map<array<S>>(result.data(), result.size()), nullptr);
            return result;
          } else if constexpr (detail::needs_moments<E>) {
            return e(group, of_batch);
          } else if constexpr (detail::estimates_with_mean<E, rewards>) {
            return e(group, of_batch.mean);
          } else {
            return e(group);
          }
        },
        estimator);
  }
};

/// An estimator whose type says whether it is linear, as the step needs to know.
template <bool Linear>
struct erased_estimator {
  const any_estimator* of;
  static constexpr bool linear = Linear;
  int smallest_group() const { return of->smallest_group(); }
  template <vector_expression R>
  array<typename R::Scalar> operator()(const R& r, const reward_moments& of_batch) const {
    return (*of)(Eigen::Map<const array<typename R::Scalar>>(r.data(), r.size()), of_batch);
  }
};

/// An all-reduce in Python, or none.
struct any_reduction {
  const py::object* function;
  void operator()(Eigen::Ref<array<double>> values, reduce_op op) const {
    if (!function) return;
    const py::gil_scoped_acquire acquired;
    const py::array_t<double> view(values.size(), values.data(), py::capsule(values.data(), [](void*) {}));
    (*function)(view, op == reduce_op::sum ? "sum" : "max");
  }
};

/// The arrays of a batch. They own what `batch` views.
template <real_scalar S>
struct token_arrays {
  rows_in<S> now, reference, old, sampler;
  py::array_t<std::uint8_t, py::array::c_style | py::array::forcecast> mask;
  token_batch<S, std::uint8_t> batch;
};

/// The parts of a step, loss or advantages.
struct step_parts {
  any_kl kl;
  any_estimator estimator;
  any_surrogate surrogate;
  any_aggregation aggregation;
  unscored on_unscored = unscored::error;
};

/// The rewards of a batch: P × M, or flat with prompts.
template <real_scalar S>
struct batch_rewards {
  rows_in<S> rewards;
  std::optional<indices> prompt;

  template <class F>
  decltype(auto) with(const F& f) const {
    if (prompt) return f(*prompt, rewards.as_column());
    return f(rewards.as_matrix());
  }
};

template <real_scalar S>
step_result<S> run_step(const step_parts& parts, const token_batch<S, std::uint8_t>& batch,
                        const batch_rewards<S>& rewards, const any_reduction& reduce);
template <real_scalar S>
step_result<S> run_loss(const step_parts& parts, const token_batch<S, std::uint8_t>& batch,
                        const rows_in<S>& advantages, const std::optional<batch_size>& size);
/// B advantages, or B × T for reward-to-go.
template <real_scalar S>
matrix<S> run_advantages(const step_parts& parts, const token_batch<S, std::uint8_t>& batch,
                         const batch_rewards<S>& rewards, const any_reduction& reduce);

}  // namespace infalign::python
