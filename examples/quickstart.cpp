// SPDX-License-Identifier: MIT
// Calibrate, transform, train. Small policies, one for each prompt, are trained with the step on four rewards at the
// same KL, and then used with best-of-4 and worst-of-4.
#include <infalign/infalign.hpp>

#include <cmath>
#include <cstdio>
#include <random>

using infalign::array, infalign::matrix;

// Rewards of 10 responses to each of 6 prompts. They come from one reward model, but each prompt has its own scale and
// skew.
const matrix<double> rewards{{-0.9, -0.7, -0.6, -0.5, -0.4, -0.3, -0.1, 0.0, 0.2, 0.6},
                             {1.0, 1.1, 1.1, 1.2, 1.2, 1.3, 1.3, 1.4, 1.6, 9.0},
                             {-60, -31, -18, -9.0, -5.0, -2.0, -1.0, 0.0, 1.0, 2.0},
                             {0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.07, 0.08, 0.09, 0.10},
                             {-4.0, -3.9, -3.8, -3.7, -3.6, 3.6, 3.7, 3.8, 3.9, 4.0},
                             {7.00, 7.00, 7.10, 7.20, 7.20, 7.30, 7.40, 7.40, 7.50, 30.0}};
const auto prompts = rewards.rows(), responses = rewards.cols();

matrix<double> softmax(const matrix<double>& logits) {
  const matrix<double> e = logits.exp();
  return e.colwise() / e.rowwise().sum();
}

template <class Shape>
void train_and_report(const char* name, const Shape& shape) {
  const double kl_target = 0.5, reference = 1.0 / static_cast<double>(responses);
  const Eigen::Index M = 64;  // responses sampled for each prompt
  matrix<double> logits = matrix<double>::Zero(prompts, responses), policy = softmax(logits);
  double beta = shape(rewards).maxCoeff() - shape(rewards).minCoeff(), kl = 0;
  std::mt19937 random(1);
  for (int iteration = 0; iteration < 4000; ++iteration) {
    Eigen::ArrayXXi sampled(prompts, M);
    matrix<double> raw(prompts, M), log_policy(prompts * M, 1);
    for (Eigen::Index p = 0; p < prompts; ++p) {
      std::discrete_distribution<int> draw(policy.row(p).begin(), policy.row(p).end());
      for (Eigen::Index m = 0; m < M; ++m) {
        const int y = sampled(p, m) = draw(random);
        raw(p, m) = rewards(p, y);
        log_policy(p * M + m, 0) = std::log(policy(p, y));  // a response is a single token here
      }
    }
    const matrix<double> log_reference = matrix<double>::Constant(prompts * M, 1, std::log(reference));

    const infalign::policy_gradient step{infalign::k1_in_reward{.beta = beta}, infalign::leave_one_out{}};
    const infalign::token_batch<double> batch{.log_probabilities = log_policy,
                                              .reference_log_probabilities = log_reference};
    const auto gradient = step(batch, shape(raw)).gradient;

    // This is the trainer's part: from d loss / d log-probability back through the softmax, and a step downhill.
    const double rate = 20 / beta / (1 + iteration / 400.0);
    for (Eigen::Index p = 0; p < prompts; ++p)
      for (Eigen::Index m = 0; m < M; ++m) {
        const double g = gradient(p * M + m, 0);
        logits.row(p) += rate * g * policy.row(p);
        logits(p, sampled(p, m)) -= rate * g;
      }
    policy = softmax(logits);
    kl = (policy * (policy / reference).log()).sum() / static_cast<double>(prompts);
    beta *= std::exp(0.02 * (kl - kl_target));  // an adaptive controller keeps every run at the same KL
  }
  const array<double> uniform = array<double>::Constant(responses, reference);
  array<double> best(prompts), worst(prompts);
  for (Eigen::Index p = 0; p < prompts; ++p) {
    best[p] = infalign::exact_win_rate(rewards.row(p), policy.row(p), uniform, infalign::best_of{4});
    worst[p] = infalign::exact_win_rate(rewards.row(p), policy.row(p), uniform, infalign::worst_of{4});
  }
  std::printf("%-36s %4.2f  %8.1f %%  %9.1f %%\n", name, kl, 100 * best.mean(), 100 * worst.mean());
}

int main() {
  std::printf("Win rate against the reference policy\n%-36s   KL   best-of-4   worst-of-4\n", "trained on");
  const infalign::calibration calibrated{rewards};  // the ten responses are the whole reference policy
  train_and_report("raw reward", [](const matrix<double>& r) { return r; });
  train_and_report("calibrated", calibrated);
  train_and_report("calibrated, for best-of-4", calibrated | infalign::exponential{.t = 10});
  train_and_report("calibrated, for worst-of-4", calibrated | infalign::exponential{.t = -10});
}
