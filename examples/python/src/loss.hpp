// SPDX-License-Identifier: MIT
#pragma once

// The loss of a step whose parts are chosen when a program runs. One .cpp for each scalar type compiles all combinations.
// This header is without Python, which would double the time to compile them.
#include <infalign/step.hpp>

#include <variant>

namespace infalign::python {

/// k2 or k3 in the loss of a response. One type, because a branch for each response costs nothing.
struct sequence_kl {
  double beta;
  bool k3;
  static constexpr kl_place place = kl_place::sequence_loss;
  template <real_scalar S>
  value_and_slope<S> loss(S delta, const probability_ratio<S>& ratio) const {
    return k3 ? k3_loss::loss(delta, ratio) : k2_loss::loss(delta);
  }
};

using any_kl_loss = std::variant<no_kl, sequence_kl, k2_token_loss, k3_token_loss>;
using any_surrogate = std::variant<reinforce, ppo_clip, sequence_clip, gspo_clip, cispo, regression>;

struct any_aggregation {
  std::variant<sequence_mean_of_token_sums, sequence_mean_of_token_means, token_mean> of;
  bool sums() const { return of.index() == 0; }
  double weight(double tokens, const batch_size& total) const {
    return std::visit([&](const auto& a) { return a.weight(tokens, total); }, of);
  }
};

struct loss_parts {
  any_kl_loss kl;
  any_surrogate surrogate;
  any_aggregation aggregation;
};

/// One advantage for each token: of reward-to-go, or given.
template <real_scalar S>
struct any_token_credit {
  std::variant<detail::to_go_credit<S>, detail::token_credit<S>> of;

  S of_response(Eigen::Index i) const {
    return std::visit([i](const auto& credit) { return credit.of_response(i); }, of);
  }
  auto of_blocks(Eigen::Index i) const {
    using to_go = decltype(std::declval<const detail::to_go_credit<S>&>().of_blocks(i));
    using given = decltype(std::declval<const detail::token_credit<S>&>().of_blocks(i));
    auto blocks = std::visit([i](const auto& credit) -> std::variant<to_go, given> { return credit.of_blocks(i); }, of);
    return [blocks = std::move(blocks)](const detail::token_block<S>& block) mutable {
      return std::visit([&](auto& one) { return one(block); }, blocks);
    };
  }
};

/// The `run` of a `detail::loss_stage`, with one function for all parts.
template <class Credit, real_scalar S>
void run_stage(const loss_parts& parts, const char* function, step_result<S>& result,
               const token_batch<S, std::uint8_t>& batch, const batch_size& size, const Credit& credit, double centre,
               detail::response_sums* sums, bool known);

/// The parts as a `detail::loss_stage`.
struct any_loss_stage {
  const loss_parts& parts;

  template <real_scalar S, class Credit>
  void run(const char* function, step_result<S>& result, workspace*, const token_batch<S, std::uint8_t>& batch,
           const batch_size& size, const Credit& credit, double centre, detail::response_sums* sums, bool known) const {
    if constexpr (std::same_as<Credit, detail::response_credit<S>>)
      run_stage(parts, function, result, batch, size, credit, centre, sums, known);
    else
      run_stage(parts, function, result, batch, size, any_token_credit<S>{credit}, centre, sums, known);
  }
};

}  // namespace infalign::python
