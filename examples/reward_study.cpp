// SPDX-License-Identifier: MIT
// reward_study FILE.jsonl [K]: the gain of calibrating and transforming your own rewards, before any training.
// reward_study FILE.jsonl plan PROCEDURE KL: what to train with, for best-of-N or worst-of-N at a KL.
// reward_study FILE.jsonl follow KEY [NAME]: over-optimisation: another number of what best-of-n by the reward shows.
//
// Each line is {"prompt": ..., "rewards": [...]}: the rewards of any number of the reference policy's responses to one
// prompt. The first form compares four rewards: raw, z-scored per prompt, calibrated, and calibrated and exponentially
// transformed. For each, the policy that maximises it under a KL term is known in closed form: the probability of a
// response is proportional to exp(reward / beta). The table has the exact win rate of that policy against the reference
// policy, averaged over the prompts, with the beta that gives the mean KL of the row; "-" if no beta does.
//
// With K, rewards are calibrated from K random responses to each prompt (8 draws a prompt), and win rates are still
// over all responses. Then there are columns for a prior that is learnt from the same references, with two transforms;
// for two more transforms without it, and for the unbiased form of each; "-" if K is too small.
//
// The third form follows the lists under another key of each line, such as "lengths" or a true reward: its mean for every
// n, the n at which it is largest, and its mean under the policies of the first form. With a NAME it writes NAME.csv and,
// if gnuplot is installed, NAME.png.
//
// The second form measures on one half of each prompt's rewards what is calibrated from the other half. PROCEDURE is
// best-of-N or worst-of-N, for example best-of-4.
#include "follow.hpp"

#include <infalign/adapters/jsonl.hpp>
#include <infalign/infalign.hpp>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <iostream>
#include <optional>
#include <random>
#include <sstream>
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

using rows = std::vector<array<double>>;

/// The rewards of one prompt, its references, and the prior that is learnt from the references of all prompts.
struct prompt_rewards {
  const array<double>&reference, &rewards;
  const calibration_prior<double>& prior;
};

/// A column of the table: its name, the scores that the policy maximises, and the smallest number of reference rewards
/// that it needs.
struct column {
  std::string name;
  std::function<array<double>(const prompt_rewards&)> score;
  Eigen::Index least = 1;
};

template <class Rank, class Phi>
column shaped(const std::string& name, Rank rank, Phi phi, Eigen::Index least = 1) {
  return {name,
          [rank, phi](const prompt_rewards& p) -> array<double> {
            const calibration calibrated{matrix<double>(p.reference.transpose()), rank};
            return (calibrated | phi)(p.rewards.transpose()).row(0);
          },
          least};
}

column with_prior(const std::string& name, double t) {
  return {name, [t](const prompt_rewards& p) -> array<double> {
            const matrix<double> reference = p.reference.transpose();
            return transform(calibrate(reference, p.prior, p.rewards.transpose()), exponential{t}).row(0);
          }};
}

/// The columns for a procedure, which is best-of-N or worst-of-N: raw, z-scored, calibrated and exponential rewards.
/// With a sample of the references also other transforms, and the unbiased form of each. At a small KL the best power
/// is u^(2N−1), or 1 − (1 − u)^(2N−1) for worst-of-N.
template <class Procedure>
std::vector<column> columns(int N, double t, bool sampled) {
  const Procedure once{N}, small_kl{2 * N - 1};
  std::vector<column> result{{"raw", [](const prompt_rewards& p) { return p.rewards; }},
                             {"zscore", [](const prompt_rewards& p) { return z_score(p.rewards); }},
                             shaped("calibrated", mid_rank{}, identity{}),
                             shaped("exponential", mid_rank{}, exponential{t})};
  if (!sampled) return result;
  result.push_back(with_prior("prior", t));
  result.push_back(with_prior("prior_half_t", t / 2));
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
            std::size_t prompts, Eigen::Index K) {
  std::vector<rows> scores(columns.size());
  std::mt19937 random(1);
  rows reference;
  for (const auto& r : rewards) reference.push_back(references(r, K, random));
  for (std::size_t first = 0; first < rewards.size(); first += prompts) {  // one draw of all prompts
    std::vector<std::vector<double>> table;
    for (std::size_t p = first; p < first + prompts; ++p) table.emplace_back(reference[p].begin(), reference[p].end());
    const calibration_prior<double> prior = K > 0 ? calibration_prior(ragged(table)) : calibration_prior<double>();
    for (std::size_t p = first; p < first + prompts; ++p)
      for (std::size_t c = 0; c < columns.size(); ++c)
        if (K == 0 || K >= columns[c].least) scores[c].push_back(columns[c].score({reference[p], rewards[p], prior}));
  }
  for (const double kl : {0.25, 0.5, 1.0}) {
    std::printf("%-10s %4.2f", name, kl);
    for (const auto& s : scores)
      if (const auto beta = s.empty() ? std::nullopt : beta_at_mean_kl(s, kl))
        std::printf(" %6.4f", finite_policies(s, at_beta{*beta}).win_rates(rewards, procedure).mean());
      else
        std::printf(" %6s", "-");
    std::printf("\n");
  }
}

/// The scored rewards of the prompts that have one. Says how many others there are.
auto scored(const jsonl_rewards<double>& log) {
  std::vector<std::vector<double>> result;
  Eigen::Index unscored = 0;
  for (Eigen::Index p = 0; p < log.rewards.rows(); ++p) {
    auto& row = result.emplace_back();
    for (const double r : log.rewards.row(p))
      if (std::isnan(r))
        ++unscored;
      else
        row.push_back(r);
    if (row.empty()) result.pop_back();
  }
  if (unscored > 0)
    std::fprintf(stderr, "reward_study: %lld unscored rewards are left out\n", static_cast<long long>(unscored));
  if (result.empty()) throw std::runtime_error("no prompt has a scored reward");
  return ragged(result);
}

template <class Log, class Procedure>
void print_plan(const Log& log, const Procedure& procedure, double kl) {
  const char* const models[] = {"pooled", "location", "location_scale"};
  const auto plan = plan_rewards(log, procedure, at_kl{kl});
  const auto& prior = plan.prior;
  std::printf("train with: prior %s of weight %.2f, normalized_exponential t = %.2f, k1_in_reward beta = %.4f\n",
              models[static_cast<int>(prior.model())], prior.weight(), plan.t, plan.beta);
  std::printf("\nmeasured with a half of each prompt's rewards, against the other half (95 %% interval)\n");
  std::printf("%6s %6s %9s  %-24s %-24s %-24s %s\n", "K", "KL", "as_good", "raw", "calibrated", "with_prior",
              "gain_over_raw");
  for (const auto& m : plan.measured) {
    std::printf("%6.1f %6.3f %9.1f ", m.count, m.kl, m.equivalent_count);
    for (const auto& w : {m.raw, m.plain, m.prior, m.gain}) std::printf(" %7.4f [%.4f, %.4f]", w.mean, w.low, w.high);
    std::printf("\n");
  }
  std::printf("\nexpected by theory, for rewards without ties\n%6s %9s\n", "K", "win_rate");
  for (const auto& f : plan.forecast) std::printf("%6.1f %9.4f\n", f.count, f.win_rate);
}

/// Prints the plan for a procedure by its name; false if there is none of that name.
template <class Log>
bool print_plan_for(const Log& log, const std::string& name, double kl) {
  const auto n = std::atoi(name.substr(std::min(name.size(), name.rfind('-') + 1)).c_str());
  if (n < 1 || !(kl > 0)) return false;
  if (name == "best-of-" + std::to_string(n)) return print_plan(log, best_of{n}, kl), true;
  if (name == "worst-of-" + std::to_string(n)) return print_plan(log, worst_of{n}, kl), true;
  return false;
}

/// A file, or all of standard input, as a stream that can be read again.
std::stringstream contents_of(const std::string& name) {
  std::stringstream text;
  if (name == "-") {
    text << std::cin.rdbuf();
    return text;
  }
  std::ifstream file(name);
  if (!file || std::filesystem::is_directory(name)) throw std::runtime_error(name + ": cannot be opened");
  text << file.rdbuf();
  return text;
}

int follow_key(const std::string& file, const std::string& key, const std::string& name) {
  auto text = contents_of(file);
  const auto rewards = read_jsonl(text, file, unscored::propagate);
  text.clear();
  text.seekg(0);
  const auto values = read_jsonl(text, file, unscored::propagate, key);
  return follow::report(rewards.rewards, values.rewards, key, name);
}

}  // namespace

int main(int argc, char** argv) {
  const bool plan = argc == 5 && std::string(argv[2]) == "plan";
  const bool follows = (argc == 4 || argc == 5) && std::string(argv[2]) == "follow";
  const int K = argc == 3 ? std::atoi(argv[2]) : 0;
  const auto usage = [] {
    std::fprintf(stderr,
                 "usage: reward_study FILE.jsonl [K]   (- for standard input)\n"
                 "       reward_study FILE.jsonl plan best-of-4 0.5\n"
                 "       reward_study FILE.jsonl follow lengths [NAME]\n");
    return 2;
  };
  if (!plan && !follows && (argc < 2 || argc > 3 || (argc == 3 && K < 1))) return usage();
  try {
    const std::string name = argv[1];
    if (follows) return follow_key(name, argv[3], argc == 5 ? argv[4] : "");
    const auto read =
        name == "-" ? read_jsonl(std::cin, name, unscored::propagate) : read_jsonl(name, unscored::propagate);
    const auto log = scored(read);
    if (plan) return print_plan_for(log, argv[3], std::atof(argv[4])) ? 0 : usage();
    rows once, rewards;
    for (Eigen::Index p = 0; p < log.rows(); ++p) once.push_back(log.row(p));
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
    report("plain", plain_sampling{}, plain, rewards, once.size(), K);
    report("best-of-4", best_of{4}, best, rewards, once.size(), K);
    report("worst-of-4", worst_of{4}, worst, rewards, once.size(), K);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "reward_study: %s\n", error.what());
    return 1;
  }
}
