// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
// Aligning a language model: infalign's part of a trainer.
#pragma once

#include "llama.hpp"

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
/// worst-of-4. The last two also with the pooled prior, and, if there are more than 8 references, with only 8 of them.
inline std::vector<goal> goals(const matrix<float>& reference, double kl) {
  using namespace infalign;
  const array<float> mean = reference.rowwise().mean();
  const array<float> deviation = (reference.colwise() - mean).square().rowwise().mean().sqrt() + 1e-6f;
  std::vector<goal> result{{"raw", [](const auto&, const auto& r) { return r; }, std::sqrt(deviation.square().mean())},
                           {"z-score",
                            [mean, deviation](const auto& prompt, array<float> r) {
                              for (Eigen::Index i = 0; i < r.size(); ++i) {
                                const auto p = prompt[static_cast<std::size_t>(i)];
                                r[i] = (r[i] - mean[p]) / deviation[p];
                              }
                              return r;
                            },
                            1},
                           {"calibrated", calibration{reference, mid_rank{}, unscored::propagate},
                            aligned_policy(identity{}, at_kl{kl}).beta()}};

  const normalized_exponential best{.t = 10}, worst{.t = -4};
  const double best_beta = aligned_policy(best, at_kl{kl}).beta(), worst_beta = aligned_policy(worst, at_kl{kl}).beta();
  const auto add = [&](const std::string& suffix, const auto& calibrated) {
    result.push_back({"best-of-4" + suffix, calibrated | best, best_beta});
    result.push_back({"worst-of-4" + suffix, calibrated | worst, worst_beta});
  };
  const auto add_both = [&](const std::string& suffix, const matrix<float>& table) {
    add(suffix, calibration{table, mid_rank{}, unscored::propagate});
    add(suffix + "-prior", calibration{table, calibration_prior{table, unscored::propagate}, unscored::propagate});
  };
  add_both("", reference);
  if (reference.cols() > 8) add_both("-K8", reference.leftCols(8));
  return result;
}

/// Returns the rewards of M responses to each prompt, prompt by prompt. NaN means that a response could not be scored.
using scorer = std::function<Tensor(const Tensor& prompts, const Tensor& responses)>;

/// One step: samples M responses to each prompt, scores them, shapes their rewards, and writes the gradient of the loss
/// to the policy's parameters. `index` has the prompts' rows in the table of reference rewards.
inline infalign::step_metrics align_step(llama& policy, llama& reference, const scorer& score, const goal& aim,
                                         double beta, const std::vector<int64_t>& index, const Tensor& prompts,
                                         int64_t M) {
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

  // The rest is the same in any trainer: log-probabilities in, a differentiable loss out. With the KL of the whole
  // response in the reward, advantages become small when the policy comes near the optimum, where R − β·δ is the same
  // for all responses. The gradient then has little noise.
  using namespace infalign;
  const policy_gradient step(k1_in_reward{beta}, leave_one_out{}, reinforce{}, sequence_mean_of_token_sums{},
                             unscored::propagate);
  const auto loss = torch_loss(step,
                               {.log_probabilities = log_probabilities(policy, prompts, responses).cpu(),
                                .reference_log_probabilities = log_reference,
                                .mask = (responses != padding).cpu()},
                               shaped);
  loss.backward();
  return loss.metrics;
}

/// M responses to each prompt: their tokens, P·M × T; their rewards; and their KL, the sum over the tokens before which
/// it is known exactly, KL(π(·|y_<t) ‖ π_ref(·|y_<t)).
struct measured {
  Tensor responses;
  matrix<float> rewards, kl;
};

/// Measures a policy. Without a `score` there are no rewards, and without a `reference` no KL.
inline measured measure(const llama& policy, const llama* reference, const scorer& score, const Tensor& prompts,
                        int64_t M) {
  const torch::NoGradGuard no_gradient;
  const auto P = prompts.size(0);
  measured result{{}, matrix<float>(P, M), matrix<float>(P, M)};
  std::vector<Tensor> all;
  const int64_t chunk = prompts.is_cuda() ? std::max<int64_t>(1, 4096 / M) : 16;  // prompts; a GPU is fast with many
  for (int64_t first = 0; first < P; first += chunk) {
    const auto part = prompts.slice(0, first, std::min(first + chunk, P));
    all.push_back(sample(policy, part, M, response_length));
    const auto put = [&](matrix<float>& to, const Tensor& values) {
      const auto flat = values.cpu().contiguous().view({part.size(0), M});
      to.middleRows(first, part.size(0)) = infalign::torch_matrix<float>(flat);
    };
    if (score) put(result.rewards, score(part, all.back()));
    if (reference != nullptr) put(result.kl, token_kl(policy, *reference, part, all.back()).sum(1));
  }
  result.responses = torch::cat(all);
  return result;
}

}  // namespace trainer
