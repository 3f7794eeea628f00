// SPDX-License-Identifier: MIT
// Calibration from few references on real reward logs, if INFALIGN_REWARD_LOGS names the folder that holds them. The
// expected values come from a program in another language.
#include <infalign/adapters/jsonl.hpp>
#include <infalign/infalign.hpp>

#include "arrays.hpp"

#include <cstdlib>
#include <fstream>
#include <string>
#include <vector>

using namespace infalign;
using Eigen::Index;

namespace {

/// The folder of the logs, which ends with a slash; empty if there is none.
std::string folder() {
  const char* const name = std::getenv("INFALIGN_REWARD_LOGS");
  return name ? std::string(name) + "/" : "";
}

/// The rewards in a log, or nothing if it is not there.
matrix<double> rewards_in(const std::string& name) {
  if (folder().empty() || !std::ifstream(folder() + name)) {
    WARN(name << " is skipped: INFALIGN_REWARD_LOGS names no folder that holds it");
    return {};
  }
  const auto log = read_jsonl(folder() + name);
  matrix<double> result(log.rewards.rows(), log.rewards.row(0).size());
  for (Index p = 0; p < result.rows(); ++p) result.row(p) = log.rewards.row(p);
  return result;
}

/// Reference j of prompt p is reward p + step·j of its row.
matrix<double> references(const matrix<double>& rewards, Index K, Index step) {
  return matrix<double>::NullaryExpr(rewards.rows(), K,
                                     [&](Index p, Index j) { return rewards(p, (p + step * j) % rewards.cols()); });
}

template <class Procedure>
double win_rate_of(const matrix<double>& rewards, const matrix<double>& u, double t, const Procedure& procedure) {
  std::vector<array<double>> rows, scores;
  for (Index p = 0; p < rewards.rows(); ++p) {
    rows.push_back(rewards.row(p));
    scores.push_back(transform(u.row(p), normalized_exponential{t}).row(0));
  }
  return detail::win_rates_at(rows, scores, 0.5, procedure).mean();
}

/// The weight; the win rate in best-of-4 at t = 5 and 10 and in worst-of-4 at t = −10, plain and pooled.
struct expected {
  Index K;
  double weight, plain[3], pooled[3];
};

void check(const char* name, Index step, double digits, const std::vector<expected>& rows) {
  const auto rewards = rewards_in(name);
  for (const auto& e : rewards.size() > 0 ? rows : std::vector<expected>{}) {
    const auto reference = references(rewards, e.K, step);
    const calibration_prior prior(reference, prior_model::pooled);
    INFO(name << ", K = " << e.K);
    CHECK(prior.weight() == Approx(e.weight).margin(e.weight > 1.6 && e.weight < 4 ? 1e-6 : 6e-4));
    const auto check_rates = [&](const matrix<double>& u, const double* rates) {
      CHECK(win_rate_of(rewards, u, 5, best_of{4}) == Approx(rates[0]).margin(digits));
      CHECK(win_rate_of(rewards, u, 10, best_of{4}) == Approx(rates[1]).margin(digits));
      CHECK(win_rate_of(rewards, u, -10, worst_of{4}) == Approx(rates[2]).margin(digits));
    };
    check_rates(calibrate(reference, rewards), e.plain);
    check_rates(calibrate(reference, prior, rewards), e.pooled);
  }
}

}  // namespace

TEST_CASE("The pooled prior gives the known win rates on real logs") {
  check("alpacaeval2_preferences.jsonl", 5, 6e-6,
        {{4, 3.665922, {.78478, .77757, .89398}, {.83166, .82797, .90862}},
         {8, 3.291042, {.81947, .81185, .91957}, {.83681, .83490, .92433}},
         {16, 3.083321, {.83690, .83531, .93794}, {.84271, .84390, .93839}},
         {32, 2.983665, {.84811, .85584, .94417}, {.84967, .85778, .94413}}});
  check("humaneval_codegen16b_tests_passed.jsonl", 7, 6e-5,
        {{4, 1.450, {.6887, .6752, .8270}, {.7005, .6888, .8366}},
         {8, 1.505, {.7072, .7015, .8425}, {.7094, .7047, .8450}},
         {16, 1.395, {.7138, .7134, .8453}, {.7139, .7134, .8462}}});
  check("humaneval_codegen16b_generated_tests_passed.jsonl", 7, 6e-5,
        {{4, 1.170, {.7090, .6997, .8153}, {.7130, .7004, .8278}},
         {8, 1.273, {.7274, .7229, .8313}, {.7267, .7209, .8369}},
         {16, 1.284, {.7387, .7402, .8410}, {.7378, .7383, .8432}}});
  check("tinystories260k_vader_rewards.jsonl", 7, 6e-5,
        {{4, 8.510, {.7823, .7737, .8652}, {.8403, .8343, .8965}},
         {8, 7.576, {.8145, .8058, .8873}, {.8417, .8402, .9014}},
         {16, 7.826, {.8365, .8356, .9027}, {.8467, .8482, .9075}}});
}

TEST_CASE("The chosen prior makes few references of real logs as good as more, and its transform is the best") {
  const std::pair<const char*, Index> logs[] = {{"alpacaeval2_preferences.jsonl", 5},
                                                {"humaneval_codegen16b_tests_passed.jsonl", 7},
                                                {"humaneval_codegen16b_generated_tests_passed.jsonl", 7},
                                                {"tinystories260k_vader_rewards.jsonl", 7}};
  for (const auto& [name, step] : logs) {
    const auto rewards = rewards_in(name);
    if (rewards.size() == 0) continue;
    for (const Index K : {4, 8, 16}) {
      const auto reference = references(rewards, K, step);
      const calibration_prior prior(reference);
      const auto plain = calibrate(reference, rewards), with = calibrate(reference, prior, rewards);
      const auto equivalent = prior.equivalent_count(static_cast<double>(K));
      const auto best_rate = [](double count, const auto& procedure) {
        return best_exponential(procedure, at_kl{0.5}, at_count{count}).transform.t;
      };
      const double t = best_rate(equivalent, best_of{4}), chosen = win_rate_of(rewards, with, t, best_of{4});
      INFO(name << ", K = " << K << ", t = " << t);
      // The transform for that quality is as good as the better of t = 5 and t = 10.
      CHECK(chosen > win_rate_of(rewards, with, 5, best_of{4}) - 0.001);
      CHECK(chosen > win_rate_of(rewards, with, 10, best_of{4}) - 0.001);
      const double t_plain = best_rate(static_cast<double>(K), best_of{4});
      CHECK(chosen > win_rate_of(rewards, plain, t_plain, best_of{4}) - 0.003);
      const double t_worst = best_rate(equivalent, worst_of{4});
      CHECK(win_rate_of(rewards, with, t_worst, worst_of{4}) >
            win_rate_of(rewards, plain, best_rate(static_cast<double>(K), worst_of{4}), worst_of{4}) - 0.003);
      if (K == 4) CHECK(equivalent > (std::string(name).starts_with("humaneval") ? 5 : 7.5));
    }
  }
}
