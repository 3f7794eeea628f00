// SPDX-License-Identifier: MIT
// reward_study FILE.jsonl [K]: the gain of calibrating and transforming your own rewards, before any training.
//
// Each line is {"prompt": ..., "rewards": [...]}: the rewards of any number of the reference policy's responses to one
// prompt. The program compares four rewards: raw, z-scored per prompt, calibrated, and calibrated and exponentially
// transformed. For each, the policy that maximises it under a KL term is known in closed form: the probability of a
// response is proportional to exp(reward / beta). The table has the exact win rate of that policy against the reference
// policy, averaged over the prompts, with the beta that gives the mean KL of the row; "-" if no beta does.
//
// With K, rewards are calibrated from K random responses to each prompt (8 draws a prompt), and win rates are still
// over all responses. Then there are columns for two more transforms, and for the unbiased form of each; "-" if K is
// too small.
#include "finite_policy.hpp"

#include <infalign/adapters/jsonl.hpp>
#include <infalign/infalign.hpp>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <iostream>
#include <optional>
#include <random>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace {

using namespace infalign;

array<double> z_score(const array<double>& r) {
  if ((r == r[0]).all()) return array<double>::Zero(r.size());
  const array<double> scaled = r / r.abs().maxCoeff();  // so that no square overflows
  const array<double> centred = scaled - scaled.mean();
  return centred / std::sqrt(centred.square().mean());
}

/// A column of the table: its name, the scores that the policy maximises (a function of the reference rewards and all
/// rewards of a prompt), and the smallest number of reference rewards that it needs.
struct column {
  std::string name;
  std::function<array<double>(const array<double>& reference, const array<double>& rewards)> score;
  Eigen::Index least = 1;
};

template <class Rank, class Phi>
column shaped(const std::string& name, Rank rank, Phi phi, Eigen::Index least = 1) {
  return {name,
          [rank, phi](const array<double>& reference, const array<double>& rewards) -> array<double> {
            const calibration calibrated{matrix<double>(reference.transpose()), rank};
            return (calibrated | phi)(rewards.transpose()).row(0);
          },
          least};
}

/// The columns for a procedure, which is best-of-N or worst-of-N: raw, z-scored, calibrated and exponential rewards.
/// With a sample of the references also other transforms, and the unbiased form of each. At a small KL the best power
/// is u^(2N−1), or 1 − (1 − u)^(2N−1) for worst-of-N.
template <class Procedure>
std::vector<column> columns(int N, double t, bool sampled) {
  const Procedure once{N}, small_kl{2 * N - 1};
  std::vector<column> result{{"raw", [](const array<double>&, const array<double>& r) { return r; }},
                             {"zscore", [](const array<double>&, const array<double>& r) { return z_score(r); }},
                             shaped("calibrated", mid_rank{}, identity{}),
                             shaped("exponential", mid_rank{}, exponential{t})};
  if (!sampled) return result;
  const unbiased_exponential unbiased{t};
  const auto power = [small_kl](double u) { return small_kl.cdf(u); };
  result.push_back(shaped("unbiased_exponential", unbiased, identity{}, unbiased.smallest_count()));
  result.push_back(shaped("power", mid_rank{}, power));
  result.push_back(shaped("unbiased_power", unbiased_win_probability{small_kl}, identity{}, 2 * N - 1));
  result.push_back(shaped("win_probability", win_probability{once}, identity{}));
  result.push_back(shaped("unbiased_win_probability", unbiased_win_probability{once}, identity{}, N));
  return result;
}

/// The rewards to calibrate from: all, or K random ones of each prompt.
array<double> references(const array<double>& rewards, Eigen::Index K, std::mt19937& random) {
  if (K == 0) return rewards;
  array<double> r = rewards;
  for (Eigen::Index k = 0; k < K; ++k)
    std::swap(r[k], r[k + static_cast<Eigen::Index>(random() % static_cast<unsigned>(r.size() - k))]);
  return r.head(K);
}

template <class Procedure>
void report(const char* name, const Procedure& procedure, const std::vector<column>& columns, const rows& rewards,
            Eigen::Index K) {
  std::vector<rows> scores(columns.size());
  std::mt19937 random(1);
  for (const auto& r : rewards) {
    const array<double> reference = references(r, K, random);
    for (std::size_t c = 0; c < columns.size(); ++c)
      if (K == 0 || K >= columns[c].least) scores[c].push_back(columns[c].score(reference, r));
  }
  for (const double kl : {0.25, 0.5, 1.0}) {
    std::printf("%-10s %4.2f", name, kl);
    for (const auto& s : scores)
      if (const auto beta = s.empty() ? std::nullopt : beta_at(s, kl))
        std::printf(" %6.4f", mean_win_rate(rewards, s, *beta, procedure));
      else
        std::printf(" %6s", "-");
    std::printf("\n");
  }
}

}  // namespace

int main(int argc, char** argv) {
  const int K = argc == 3 ? std::atoi(argv[2]) : 0;
  if (argc < 2 || argc > 3 || (argc == 3 && K < 1)) {
    std::fprintf(stderr, "usage: reward_study FILE.jsonl [K]   (- for standard input)\n");
    return 2;
  }
  try {
    const std::string name = argv[1];
    const auto log = name == "-" ? read_jsonl(std::cin, name) : read_jsonl(name);
    rows once, rewards;
    for (Eigen::Index p = 0; p < log.rewards.rows(); ++p) once.push_back(log.rewards.row(p));
    for (int repeat = 0; repeat < (K > 0 ? 8 : 1); ++repeat) rewards.insert(rewards.end(), once.begin(), once.end());
    for (std::size_t p = 0; p < once.size(); ++p)
      if (once[p].size() < K)
        throw std::runtime_error(name + ": prompt " + std::to_string(p + 1) + " has " + std::to_string(once[p].size()) +
                                 " rewards, fewer than K = " + std::to_string(K));
    const auto plain = columns<best_of>(1, 10, K > 0), best = columns<best_of>(4, 10, K > 0),
               worst = columns<worst_of>(4, -10, K > 0);
    std::printf("procedure kl");
    for (const auto& c : plain) std::printf(" %s", c.name.c_str());
    std::printf("\n");
    report("plain", plain_sampling{}, plain, rewards, K);
    report("best-of-4", best_of{4}, best, rewards, K);
    report("worst-of-4", worst_of{4}, worst, rewards, K);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "reward_study: %s\n", error.what());
    return 1;
  }
}
