// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
// Aligning a language model: infalign's part of a trainer.
#pragma once

#include "gpt.hpp"

#include <infalign/adapters/npy.hpp>
#include <infalign/adapters/torch.hpp>
#include <infalign/infalign.hpp>

#include <functional>
#include <string>
#include <vector>

namespace trainer {

using infalign::array, infalign::matrix;

/// A reward to train on: a function of the prompts' rows in the table of reference rewards and of a flat batch of
/// rewards; and the initial KL weight, which the theory gives for the intended KL.
struct goal {
  std::string name;
  std::function<array<float>(const std::vector<int64_t>&, const array<float>&)> shape;
  double beta;
};

/// The rewards that are compared: raw, standardised for each prompt, calibrated, and transformed for best-of-4 and for
/// worst-of-4.
inline std::vector<goal> goals(const infalign::npy_table<float>& reference, double kl) {
  using namespace infalign;
  const auto row = [reference](int64_t p) { return reference.row(p); };
  const auto deviation = [row](int64_t p) { return std::sqrt((row(p) - row(p).mean()).square().mean()) + 1e-6f; };
  double squares = 0;
  for (Eigen::Index p = 0; p < reference.rows(); ++p) squares += deviation(p) * deviation(p);

  const calibration calibrated{reference, mid_rank{}, unscored::propagate};
  const auto best = best_exponential(best_of{4}, at_kl{kl}), worst = best_exponential(worst_of{4}, at_kl{kl});
  return {
      {"raw", [](const auto&, const auto& r) { return r; }, std::sqrt(squares / static_cast<double>(reference.rows()))},
      {"z-score",
       [row, deviation](const auto& prompt, array<float> r) {
         for (Eigen::Index i = 0; i < r.size(); ++i) {
           const auto p = prompt[static_cast<std::size_t>(i)];
           r[i] = (r[i] - row(p).mean()) / deviation(p);
         }
         return r;
       },
       1},
      {"calibrated", calibrated, aligned_policy(identity{}, at_kl{kl}).beta()},
      {"best-of-4", calibrated | best.transform, best.beta},
      {"worst-of-4", calibrated | worst.transform, worst.beta}};
}

/// Returns the rewards of M responses to each prompt, prompt by prompt. NaN means that a response could not be scored.
using scorer = std::function<Tensor(const Tensor& prompts, const Tensor& responses)>;

/// One step: samples M responses to each prompt, scores them, shapes their rewards, and writes the gradient of the loss
/// to the policy's parameters. `index` has the prompts' rows in the table of reference rewards.
inline infalign::step_metrics align_step(gpt& policy, gpt& reference, const scorer& score, const goal& aim, double beta,
                                         const std::vector<int64_t>& index, const Tensor& prompts, int64_t M) {
  const auto responses = sample(policy, prompts, M, response_length);
  array<float> rewards;
  Tensor log_reference;
  {
    const torch::NoGradGuard no_gradient;
    log_reference = log_probabilities(reference, prompts, responses).cpu();
    rewards = infalign::torch_array<float>(score(prompts, responses).cpu());
  }
  std::vector<int64_t> prompt;
  for (const auto p : index) prompt.insert(prompt.end(), static_cast<std::size_t>(M), p);
  const Tensor shaped = infalign::torch_tensor(aim.shape(prompt, rewards)).view({prompts.size(0), M});

  // The rest is the same in any trainer: log-probabilities in, a differentiable loss out.
  using namespace infalign;
  const policy_gradient step(k1_reward_to_go{beta}, leave_one_out{}, reinforce{}, sequence_mean_of_token_sums{},
                             unscored::propagate);
  const auto loss = torch_loss(step,
                               {.log_probabilities = log_probabilities(policy, prompts, responses).cpu(),
                                .reference_log_probabilities = log_reference,
                                .mask = (responses != padding).cpu()},
                               shaped);
  loss.backward();
  return loss.metrics;
}

/// Rewards and log-probabilities of M responses to each held-out prompt.
struct measured {
  matrix<float> rewards, log_probabilities, reference_log_probabilities;
};

/// `reference` may be null if only rewards are needed.
inline measured measure(gpt& policy, gpt* reference, const scorer& score, const Tensor& prompts, int64_t M) {
  const torch::NoGradGuard no_gradient;
  const auto P = prompts.size(0);
  measured result{matrix<float>(P, M), matrix<float>(P, M), matrix<float>(P, M)};
  constexpr int64_t chunk = 32;
  for (int64_t first = 0; first < P; first += chunk) {
    const auto part = prompts.slice(0, first, std::min(first + chunk, P));
    const auto responses = sample(policy, part, M, response_length);
    const auto put = [&](matrix<float>& to, const Tensor& values) {
      const auto flat = values.cpu().contiguous().view({part.size(0), M});
      to.middleRows(first, part.size(0)) = infalign::torch_matrix<float>(flat);
    };
    put(result.rewards, score(part, responses));
    if (reference == nullptr) continue;
    put(result.log_probabilities, log_probabilities(policy, part, responses).sum(1));
    put(result.reference_log_probabilities, log_probabilities(*reference, part, responses).sum(1));
  }
  return result;
}

}  // namespace trainer
