// SPDX-License-Identifier: MIT
// How close does training come to the optimum? Softmax policies over 200 responses, one for each prompt, are trained to
// convergence by sampled steps on
//   (a) the best exponential transform of the calibrated reward,
//   (b) win probabilities with the credit of the procedure (max@N for best-of-N), which need no transform,
//   (c) the ascent transform, which is best for the present policy, computed for each batch,
//   (d) the optimal transform,
// and compared with the optimum at that beta, which is known before training.
//
// tabular_rlhf steps: how far it gets in how many steps.
// tabular_rlhf few: the same training if only 8 reference rewards of each prompt are known, with and without a prior.
#include <infalign/infalign.hpp>

#include <cmath>
#include <cstdio>
#include <random>
#include <string>
#include <utility>

namespace {

using namespace infalign;

constexpr Eigen::Index responses = 200;
constexpr double uniform = 1.0 / static_cast<double>(responses);

/// Rewards with four shapes and scales: normal, exponential, bounded, heavy-tailed.
matrix<double> make_rewards() {
  std::mt19937 random(7);
  std::normal_distribution<double> normal;
  matrix<double> rewards(4, responses);
  for (double& r : rewards.row(0)) r = 3 * normal(random);
  for (double& r : rewards.row(1)) r = -std::log(std::uniform_real_distribution<double>(1e-9, 1)(random));
  for (double& r : rewards.row(2)) r = 1 / (1 + std::exp(-2 * normal(random)));
  for (double& r : rewards.row(3)) r = 50 / normal(random);
  return rewards;
}

/// Trains a policy by steps on groups sampled from it. Returns the log-probability of each response.
template <class Shape, class Step>
matrix<double> train(const matrix<double>& rewards, const Shape& shape, const Step& step, double rate,
                     Eigen::Index group = 64, int iterations = 12000, unsigned seed = 1) {
  const Eigen::Index prompts = rewards.rows();
  std::mt19937 random(seed);
  matrix<double> logits = matrix<double>::Zero(prompts, responses);
  const matrix<double> log_reference = matrix<double>::Constant(prompts * group, 1, std::log(uniform));
  for (int iteration = 0;; ++iteration) {
    const matrix<double> policy = logits.exp().colwise() / logits.exp().rowwise().sum();
    if (iteration == iterations) return policy.log();
    matrix<double> raw(prompts, group), log_policy(prompts * group, 1);
    Eigen::ArrayXXi sampled(prompts, group);
    for (Eigen::Index p = 0; p < prompts; ++p) {
      std::discrete_distribution<int> draw(policy.row(p).begin(), policy.row(p).end());
      for (Eigen::Index m = 0; m < group; ++m) {
        sampled(p, m) = draw(random);
        raw(p, m) = rewards(p, sampled(p, m));
        log_policy(p * group + m, 0) = std::log(policy(p, sampled(p, m)));
      }
    }
    const token_batch<double> batch{.log_probabilities = log_policy, .reference_log_probabilities = log_reference};
    const auto gradient = step(batch, shape(raw)).gradient;
    const double now = rate / (1 + 10.0 * iteration / iterations);
    for (Eigen::Index p = 0; p < prompts; ++p)
      for (Eigen::Index m = 0; m < group; ++m) {
        const double g = now * static_cast<double>(prompts) * gradient(p * group + m, 0);
        logits.row(p) += g * policy.row(p);
        logits(p, sampled(p, m)) -= g;
      }
  }
}

/// The mean KL to the reference over prompts, and the mean exact win rate against it.
template <procedure Procedure>
std::pair<double, double> measured(const matrix<double>& rewards, const matrix<double>& log_policy,
                                   const Procedure& procedure) {
  const auto prompts = static_cast<double>(rewards.rows());
  double win_rate = 0;
  for (Eigen::Index p = 0; p < rewards.rows(); ++p)
    win_rate += exact_win_rate(rewards.row(p), log_policy.row(p).exp(), array<double>::Constant(responses, uniform),
                               procedure) /
                prompts;
  return {(log_policy.exp() * (log_policy - std::log(uniform))).sum() / prompts, win_rate};
}

template <procedure Procedure>
void report(const char* name, const matrix<double>& rewards, const matrix<double>& log_policy,
            const Procedure& procedure, const optimum& optimum) {
  const auto [kl, win_rate] = measured(rewards, log_policy, procedure);
  const double gain = win_rate - optimum.beta * kl - 0.5, most = optimum.win_rate - optimum.beta * optimum.kl - 0.5;
  std::printf("  %-34s %6.4f  %6.4f  %6.2f %%\n", name, kl, win_rate, 100 * gain / most);
}

template <procedure Procedure, class Credit>
void compare(const char* name, const Procedure& procedure, const Credit& credit, double beta) {
  const auto rewards = make_rewards();
  const auto optimum = optimal_transform(procedure, at_beta{beta});
  const auto exponential = best_exponential(procedure, at_kl{optimum.kl});
  std::printf("%s at beta = %g: W - beta*KL, as a share of what the optimum gains\n", name, beta);
  std::printf("  %-34s %6s  %6s  %8s\n", "", "KL", "W", "gain");
  std::printf("  %-34s %6.4f  %6.4f  100.00 %%\n", "the optimum, in theory", optimum.kl, optimum.win_rate);

  char label[64];
  std::snprintf(label, sizeof label, "(a) exponential, t = %.1f", exponential.transform.t);
  report(label, rewards,
         train(rewards, calibration{rewards} | exponential,
               policy_gradient{k1_in_reward{.beta = exponential.beta}, leave_one_out{}}, 10 / exponential.beta),
         procedure, optimum);
  report("(b) win probability, its credit", rewards,
         train(rewards, calibration{rewards, win_probability{procedure}},
               policy_gradient{k1_in_reward{.beta = beta}, credit}, 10 / beta),
         procedure, optimum);
  const calibration calibrated{rewards};
  const auto as_it_stands = [&](const matrix<double>& raw) {
    const auto u = calibrated(raw);
    return transform(u, ascent_transform(u, procedure));
  };
  report("(c) ascent transform of each batch", rewards,
         train(rewards, as_it_stands, policy_gradient{k1_in_reward{.beta = beta}, leave_one_out{}}, 10 / beta),
         procedure, optimum);
  report("(d) the optimal transform itself", rewards,
         train(rewards, calibration{rewards} | optimum, policy_gradient{k1_in_reward{.beta = beta}, leave_one_out{}},
               10 / beta),
         procedure, optimum);
}

/// Trains on the best exponential for best-of-4 at the β of theory, for these numbers of steps of 16 responses a prompt.
void compare_steps() {
  const auto rewards = make_rewards();
  const auto best = best_exponential(best_of{4}, at_kl{0.5});
  std::printf("%6s  %6s  %6s\n%6s  %6.4f  %6.4f\n", "steps", "KL", "W", "theory", best.kl, best.win_rate);
  for (const int steps : {100, 300, 1000, 3000, 10000}) {
    const auto policy =
        train(rewards, calibration{rewards} | best, policy_gradient{k1_in_reward{.beta = best.beta}, leave_one_out{}},
              3 / best.beta, 16, steps);
    const auto [kl, win_rate] = measured(rewards, policy, best_of{4});
    std::printf("%6d  %6.4f  %6.4f\n", steps, kl, win_rate);
  }
}

/// Trains on rewards that are calibrated from 8 references of each of 64 prompts, whose rewards are a level of the prompt
/// plus noise. Win rates are against the whole reference policy, and beside them the most that its KL allows.
template <procedure Procedure>
void compare_few(const char* name, const Procedure& procedure, unsigned seed) {
  constexpr Eigen::Index prompts = 64, K = 8;
  std::mt19937 random(100 + seed);
  std::normal_distribution<double> normal;
  matrix<double> rewards(prompts, responses), reference(prompts, K);
  for (Eigen::Index p = 0; p < prompts; ++p) {
    const double level = normal(random);
    for (double& r : rewards.row(p)) r = level + normal(random);
    for (double& r : reference.row(p)) r = rewards(p, static_cast<Eigen::Index>(random() % responses));
  }
  const auto run = [&](const char* calibrated, const auto& shape, double beta) {
    const policy_gradient step{k1_in_reward{.beta = beta}, leave_one_out{}};
    const auto [kl, win_rate] = measured(rewards, train(rewards, shape, step, 3 / beta, 16, 4000, seed), procedure);
    const double most = optimal_transform(procedure, at_kl{kl}).win_rate;
    std::printf("%-10s %4u  %-10s %6.4f  %6.4f  %6.4f  %7.4f\n", name, seed, calibrated, kl, win_rate, most,
                win_rate - most);
  };
  const auto plain = best_exponential(procedure, at_kl{0.5}, at_count{K});
  run("plain", calibration{reference} | plain.transform, plain.beta);
  const auto plan = plan_rewards(reference, procedure, at_kl{0.5});
  run("prior", plan.shape, plan.beta);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 2 && std::string(argv[1]) == "steps") {
    compare_steps();
    return 0;
  }
  if (argc == 2 && std::string(argv[1]) == "few") {
    std::printf("procedure  seed  calibrated KL      W       most    lost\n");
    for (const unsigned seed : {1u, 2u, 3u}) {
      compare_few("best-of-4", best_of{4}, seed);
      compare_few("worst-of-4", worst_of{4}, seed);
    }
    return 0;
  }
  compare("best-of-4", best_of{4}, max_at_n{4}, 0.2);
  compare("worst-of-4", worst_of{4}, min_at_n{4}, 0.2);
  const soft_best_of soft{4, 10};
  compare("soft best-of-4, lambda = 10,", soft, order_weighted{order_weights(soft)}, 0.2);
}
