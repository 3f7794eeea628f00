// SPDX-License-Identifier: MIT
// reference_samples: how many reference samples K does calibration need?
//
// There are 200 prompts with 500 responses each. Their calibrated rewards are evenly spread. Rewards are calibrated
// from K responses drawn at random. The policy that training on the transformed reward gives is known in closed form,
// and so is its exact win rate over all 500 responses.
//
//  1. Bias: the mean of e^{tĈ} and Ĉ^m over the draws, divided by e^{tC} and C^m; also of their unbiased forms.
//  2. Loss: the win rate at KL 0.5 with the exact C, less that with Ĉ. All prompts have one beta, chosen for each entry
//     so that the mean KL is 0.5.
//  3. Check: at the beta of the theory, the predicted and the true KL and win rate; and the win rate that one would
//     measure with fresh references, and with those that calibrated.
#include <infalign/infalign.hpp>

#include <cstdio>
#include <functional>
#include <random>
#include <string>
#include <utility>
#include <vector>

namespace {

using namespace infalign;

constexpr Eigen::Index prompts = 200, responses = 500;

/// Rewards of the responses to each prompt. Only their order matters.
const array<double> rewards = array<double>::LinSpaced(responses, 0, 1);

using rows = std::vector<array<double>>;

/// The mean over prompts of the policy's exact win rate against the reference.
template <procedure Procedure>
double mean_win_rate(const rows& scores, double beta, const Procedure& procedure) {
  return finite_policies(scores, at_beta{beta}).win_rates(rows(scores.size(), rewards), procedure).mean();
}

/// Scores of responses, from K reference rewards for each prompt.
using scorer = std::function<matrix<double>(const matrix<double>& reference, const matrix<double>& rewards)>;

template <class Rank, class Phi>
scorer by(Rank rank, Phi phi) {
  return [rank, phi](const matrix<double>& reference, const matrix<double>& r) {
    const calibration calibrated{reference, tabulated_rank{rank, reference.cols()}};
    return (calibrated | phi)(r);
  };
}

matrix<double> draw(Eigen::Index K, std::mt19937_64& random) {
  return matrix<double>::NullaryExpr(prompts, K,
                                     [&] { return rewards[static_cast<Eigen::Index>(random() % responses)]; });
}

rows scores_of(const scorer& score, const matrix<double>& reference) {
  const matrix<double> all = rewards.transpose().replicate(reference.rows(), 1), scores = score(reference, all);
  rows result;
  for (Eigen::Index p = 0; p < scores.rows(); ++p) result.push_back(scores.row(p).transpose());
  return result;
}

/// The win rate at a KL, with one beta for all prompts.
template <procedure Procedure>
double win_rate_at(const rows& scores, double kl, const Procedure& procedure) {
  return mean_win_rate(scores, beta_at_mean_kl(scores, kl).value(), procedure);
}

const std::vector<Eigen::Index> sizes{4, 8, 16, 32, 64, 128, 256};

/// The mean of a rank functor over below ~ Binomial(K, C), divided by the true value.
template <rank_functor Rank>
double relative_mean(const Rank& rank, Eigen::Index K, double C, double truth) {
  double sum = 0, cdf = 0;
  for (Eigen::Index below = 0; below <= K; ++below) {
    const double at_most = below < K ? 1 - order_statistic{static_cast<int>(below) + 1, static_cast<int>(K)}.cdf(C) : 1;
    sum += (at_most - cdf) * rank(below, 0, K);
    cdf = at_most;
  }
  return sum / truth;
}

void print_bias() {
  std::printf("mean over its draws, relative to the truth, at C = 0.9\n%-32s", "K");
  for (const auto K : sizes) std::printf(" %8d", static_cast<int>(K));
  const auto line = [](const char* name, double truth, Eigen::Index least, const auto& rank) {
    std::printf("\n%-32s", name);
    for (const auto K : sizes) {
      if (K < least)
        std::printf(" %8s", "-");
      else
        std::printf(" %8.4f", relative_mean(rank, K, 0.9, truth));
    }
  };
  const auto plugged_in = [](auto phi) {
    return [phi](Eigen::Index below, Eigen::Index tied, Eigen::Index count) {
      return phi(mid_rank{}(below, tied, count));
    };
  };
  line("e^{10 u} of the rank", std::exp(9.0), 1, plugged_in(exponential{10}));
  line("unbiased_exponential{10}", std::exp(9.0), unbiased_exponential{10}.smallest_count(), unbiased_exponential{10});
  line("u^7 of the rank", std::pow(0.9, 7), 1, plugged_in(power{7}));
  line("unbiased_power{7}", std::pow(0.9, 7), 7, unbiased_power{7});
  std::printf("\n\n");
}

/// Prints one line: the win rate at KL 0.5 with the exact C, and the loss at each K.
template <procedure Procedure>
void print_loss(const std::string& name, const Procedure& procedure, const scorer& exact, Eigen::Index least,
                const scorer& estimated) {
  const matrix<double> all = rewards.transpose();
  const double best = win_rate_at(scores_of(exact, all), 0.5, procedure);
  std::printf("%-32s %7.4f", name.c_str(), best);
  std::mt19937_64 random(1);
  for (const auto K : sizes) {
    const matrix<double> reference = draw(K, random);
    if (K < least)
      std::printf(" %7s", "-");
    else
      std::printf(" %7.4f", best - win_rate_at(scores_of(estimated, reference), 0.5, procedure));
  }
  std::printf("\n");
}

void print_losses() {
  std::printf("win rate lost at KL 0.5\n%-32s %7s", "procedure, transform", "exact");
  for (const auto K : sizes) std::printf(" %7s", ("K=" + std::to_string(K)).c_str());
  std::printf("\n");
  const auto lines = [](const std::string& name, const auto& procedure, int n, double sign) {
    for (const double t : {sign * 5, sign * 10, best_exponential(procedure, at_kl{0.5}).transform.t}) {
      char label[64];
      std::snprintf(label, sizeof label, "%s, t = %.1f", name.c_str(), t);
      const auto shaped = by(mid_rank{}, normalized_exponential{t});
      print_loss(label, procedure, shaped, 1, shaped);
    }
    const unbiased_exponential unbiased{sign * 10};
    print_loss(name + ", unbiased, t = " + (sign > 0 ? "10" : "-10"), procedure,
               by(mid_rank{}, normalized_exponential{unbiased.t}), unbiased.smallest_count(), by(unbiased, identity{}));
    if (sign < 0) return;
    print_loss(name + ", u^(2N-1)", procedure, by(mid_rank{}, power{2.0 * n - 1}), 1,
               by(mid_rank{}, power{2.0 * n - 1}));
    print_loss(name + ", unbiased u^(2N-1)", procedure, by(mid_rank{}, power{2.0 * n - 1}), 2 * n - 1,
               by(unbiased_power{2 * n - 1}, identity{}));
  };
  for (const int n : {2, 4, 10}) lines("best-of-" + std::to_string(n), best_of{n}, n, 1);
  for (const int n : {2, 4, 10}) lines("worst-of-" + std::to_string(n), worst_of{n}, n, -1);
}

/// The rewards of 16 random responses of the policy to each prompt.
matrix<double> sample(const rows& scores, double beta, std::mt19937_64& random) {
  matrix<double> result(static_cast<Eigen::Index>(scores.size()), 16);
  for (std::size_t p = 0; p < scores.size(); ++p) {
    const auto policy = finite_policy(scores[p], beta).probability;
    std::discrete_distribution<Eigen::Index> choose(policy.begin(), policy.end());
    for (Eigen::Index m = 0; m < result.cols(); ++m) result(static_cast<Eigen::Index>(p), m) = rewards[choose(random)];
  }
  return result;
}

void print_check() {
  const auto chosen = best_exponential(best_of{4}, at_kl{0.5});
  std::printf("\nbest-of-4, t = %.1f, beta = %.4f: predicted KL %.4f, win rate %.4f\n", chosen.transform.t, chosen.beta,
              chosen.kl, chosen.win_rate);
  std::printf("%5s %12s %12s   %-24s %-24s\n", "K", "realised KL", "win rate", "measured, fresh refs",
              "measured, the same refs");
  for (const Eigen::Index K : {8, 16, 32, 64, 128, 256}) {
    std::mt19937_64 random(2);
    const matrix<double> reference = draw(K, random), fresh = draw(K, random);
    const rows scores = scores_of(by(mid_rank{}, chosen.transform), reference);
    const matrix<double> policy = sample(scores, chosen.beta, random);
    const mean_estimate honest = win_rate(policy, fresh, best_of{4}),
                        optimistic = win_rate(policy, reference, best_of{4});
    std::printf("%5d %12.4f %12.4f   %.4f [%.4f, %.4f]  %.4f [%.4f, %.4f]\n", static_cast<int>(K),
                mean_kl(scores, chosen.beta), mean_win_rate(scores, chosen.beta, best_of{4}), honest.mean, honest.low,
                honest.high, optimistic.mean, optimistic.low, optimistic.high);
  }
}

}  // namespace

int main() {
  print_bias();
  print_losses();
  print_check();
}
