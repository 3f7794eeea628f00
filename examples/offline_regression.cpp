// SPDX-License-Identifier: MIT
// Alignment without sampling. A policy over 400 responses is trained for best-of-4 on a fixed log, three quarters of which
// are from the worse half of the responses. No response of the policy itself is ever drawn. Theory knows the optimum, and
// log Z, before training:
//   (a) regression on single responses, with the log Z of theory,
//   (b) the same with a log Z that is too small, and too large,
//   (c) regression on differences within groups of four, which needs no Z.
#include <infalign/infalign.hpp>

#include <cmath>
#include <cstdio>
#include <vector>

namespace {

using namespace infalign;

constexpr Eigen::Index responses = 400, group = 4;
constexpr double beta = 0.2;

/// Rewards of the responses, from the worst to the best; heavy-tailed. The reference policy is uniform.
matrix<double> make_rewards() {
  return matrix<double>::NullaryExpr(1, responses, [](Eigen::Index, Eigen::Index y) {
    const double u = (static_cast<double>(y) + 0.5) / responses;
    return std::exp(3 * u) * std::log(u / (1 - u));
  });
}

/// The log: the index of each response in it. Each group has three of the worse half and one of the better half.
std::vector<Eigen::Index> make_log() {
  std::vector<Eigen::Index> log;
  for (Eigen::Index i = 0; i < 2 * responses; ++i) {
    const Eigen::Index half = responses / 2, k = i / group;
    log.push_back(i % group == 0 ? half + k % half : (3 * k + i % group) * 37 % half);
  }
  return log;
}

/// Trains by gradient descent with momentum on the whole log: step(batch) gives the gradient by its log-probabilities.
template <class Step>
array<double> train(const std::vector<Eigen::Index>& log, const Step& step) {
  const auto B = static_cast<Eigen::Index>(log.size());
  const auto response = [&](Eigen::Index i) { return log[static_cast<std::size_t>(i)]; };
  array<double> logits = array<double>::Zero(responses), policy = array<double>::Constant(responses, 1.0 / responses),
                velocity = logits;
  matrix<double> now(B, 1);
  const matrix<double> reference = matrix<double>::Constant(B, 1, -std::log(static_cast<double>(responses)));
  const double rate = static_cast<double>(B) / (18 * beta);
  for (int iteration = 0; iteration < 3000; ++iteration) {
    for (Eigen::Index i = 0; i < B; ++i) now(i, 0) = std::log(policy[response(i)]);
    const matrix<double> gradient =
        step(token_batch<double>{.log_probabilities = now, .reference_log_probabilities = reference}).gradient;
    velocity = 0.95 * velocity + rate * gradient.sum() * policy;
    for (Eigen::Index i = 0; i < B; ++i) velocity[response(i)] -= rate * gradient(i, 0);
    logits += velocity;
    policy = (logits - logits.maxCoeff()).exp();
    policy /= policy.sum();
  }
  return policy;
}

void report(const char* name, const matrix<double>& rewards, const array<double>& policy) {
  const array<double> uniform = array<double>::Constant(responses, 1.0 / responses);
  const double kl = (policy > 0).select(policy * (policy.max(1e-300) * responses).log(), 0.0).sum();
  std::printf("%-34s %6.4f  %6.4f  %6.4f\n", name, kl, exact_win_rate(rewards.row(0), policy, uniform, best_of{4}),
              policy.maxCoeff());
}

}  // namespace

int main() {
  const auto rewards = make_rewards();
  const auto log = make_log();
  const auto optimum = optimal_transform(best_of{4}, at_beta{beta});
  const auto phi = (calibration{rewards} | optimum)(rewards);  // of each response
  array<double> shaped(static_cast<Eigen::Index>(log.size()));
  for (Eigen::Index i = 0; i < shaped.size(); ++i) shaped[i] = phi(0, log[static_cast<std::size_t>(i)]);

  std::printf("%-34s %6s  %6s  %6s\n", "best-of-4, beta = 0.2", "KL", "W", "most likely");
  std::printf("%-34s %6.4f  %6.4f\n", "the optimum, in theory", optimum.kl, optimum.win_rate);
  const policy_gradient regress{no_kl{}, no_baseline{}, regression{beta}};
  const auto with_log_z = [&](const char* name, double log_z) {
    const array<double> target = shaped - beta * log_z;
    report(name, rewards, train(log, [&](const auto& batch) { return regress(batch, target); }));
  };
  with_log_z("(a) regression, log Z of theory", optimum.log_partition());
  with_log_z("(b) log Z too small by 1", optimum.log_partition() - 1);
  with_log_z("(b) log Z too large by 1", optimum.log_partition() + 1);
  const policy_gradient compare{k1_in_reward{beta}, group_mean{}};
  const matrix<double> in_groups = shaped.reshaped<Eigen::RowMajor>(shaped.size() / group, group);
  report("(c) differences in groups of 4", rewards,
         train(log, [&](const auto& batch) { return compare(batch, in_groups); }));
}
