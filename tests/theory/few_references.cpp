// SPDX-License-Identifier: MIT
#include <infalign/measure/exact_win_rate.hpp>
#include <infalign/theory/few_references.hpp>
#include <infalign/theory/finite_policy.hpp>

#include "arrays.hpp"

#include <cmath>
#include <random>
#include <vector>

using namespace infalign;
using Eigen::Index;

namespace {

/// KL and win rate of the policies that are trained on ranks among K random references, over 1,000 responses that are
/// spread evenly. Drawn, not integrated.
template <class Procedure>
std::pair<double, double> simulated(const Procedure& procedure, int K, double t, double beta, int prompts = 1500) {
  std::mt19937 random(9);
  std::uniform_real_distribution<double> uniform;
  const Index n = 1000;
  const array<double> reward = array<double>::LinSpaced(n, 0.5 / n, 1 - 0.5 / n),
                      even = array<double>::Constant(n, 1.0 / n);
  double kl = 0, win_rate = 0;
  for (int p = 0; p < prompts; ++p) {
    array<double> below = array<double>::Zero(n);
    for (int k = 0; k < K; ++k) below += (reward > uniform(random)).cast<double>();
    const array<double> phi = ((t * below / K).exp() - 1) / std::expm1(t);
    const finite_policy policy(phi, beta);
    kl += policy.kl / prompts;
    win_rate += exact_win_rate(reward, policy.probability, even, procedure) / prompts;
  }
  return {kl, win_rate};
}

}  // namespace

TEST_CASE("KL and win rate at few references are those of a simulation") {
  for (const int K : {2, 8, 32}) {
    const auto best = best_exponential(best_of{4}, at_kl{0.5}, at_count{static_cast<double>(K)});
    const auto [kl, win_rate] = simulated(best_of{4}, K, best.transform.t, best.beta);
    INFO("K = " << K << ", t = " << best.transform.t);
    CHECK(kl == Approx(0.5).margin(0.015));
    CHECK(win_rate == Approx(best.win_rate).margin(0.004));
    CHECK(best.kl == Approx(0.5).epsilon(1e-5));
  }
  const auto worst = best_exponential(worst_of{4}, at_kl{0.25}, at_count{8});
  const auto [kl, win_rate] = simulated(worst_of{4}, 8, worst.transform.t, worst.beta);
  CHECK(kl == Approx(0.25).margin(0.01));
  CHECK(win_rate == Approx(worst.win_rate).margin(0.004));
}

TEST_CASE("A very small KL is met too") {
  for (const double kl : {1e-6, 1e-3, 0.02}) {
    const auto best = best_exponential(best_of{4}, at_kl{kl}, at_count{8});
    CHECK(best.kl == Approx(kl).epsilon(1e-4));
    CHECK(best.win_rate > 0.5);
    CHECK(best.win_rate < 0.5 + 2 * std::sqrt(kl));
  }
}

TEST_CASE("No other t has a higher win rate at the KL, in a simulation") {
  const auto best = best_exponential(best_of{4}, at_kl{0.5}, at_count{8});
  const auto at = [&](double t) {
    double low = std::log(1e-3), high = std::log(10);
    for (int i = 0; i < 12; ++i) {
      const double middle = (low + high) / 2;
      (simulated(best_of{4}, 8, t, std::exp(middle), 300).first > 0.5 ? low : high) = middle;
    }
    return simulated(best_of{4}, 8, t, std::exp(high), 300).second;
  };
  const double most = at(best.transform.t);
  for (const double factor : {0.3, 0.6, 1.6, 3.0}) CHECK(at(factor * best.transform.t) < most + 0.0005);
}

TEST_CASE("More references allow a sharper transform and win more, up to the theory's best") {
  const auto limit = best_exponential(best_of{4}, at_kl{0.5});
  double t = 0, win_rate = 0;
  for (const double K : {2.0, 3.0, 3.7, 10.0, 50.0, 400.0}) {
    const auto best = best_exponential(best_of{4}, at_kl{0.5}, at_count{K});
    CHECK(best.transform.t > t);
    CHECK(best.win_rate > win_rate);
    t = best.transform.t, win_rate = best.win_rate;
  }
  CHECK(t < limit.transform.t);
  CHECK(win_rate == Approx(limit.win_rate).margin(0.004));
  const auto many = best_exponential(best_of{4}, plain_sampling{}, at_kl{0.5}, at_count{infinity<double>});
  CHECK(many.win_rate == best_exponential(best_of{4}, plain_sampling{}, at_kl{0.5}).win_rate);
  CHECK(best_exponential(worst_of{4}, at_kl{0.5}, at_count{8}).transform.t < 0);
}

TEST_CASE("Calibrated rewards of few references are shares of them, uniform on the whole") {
  for (const double K : {1., 4., 7.5, 5000.}) {
    const double count = std::min(K, 4096.);
    const auto rows = detail::few_reference_policy(K).calibrated(50, 100);
    CHECK(rows.size() == 100);
    double sum = 0, squares = 0;
    for (const auto& u : rows) {
      REQUIRE(u.size() == 50);
      CHECK(u.minCoeff() >= 0);
      CHECK(u.maxCoeff() <= 1);
      // Multiples of 1/K.
      const auto off = [&u](double k) { return (u * k - (u * k).round()).abs().maxCoeff(); };
      CHECK(std::min(off(std::floor(count)), off(std::ceil(count))) < 1e-9);
      sum += u.sum(), squares += u.square().sum();
    }
    // The mean square of a share of K is 1/3 + 1/(6K).
    CHECK(sum / 5000 == near(0.5, 0.03));
    CHECK(squares / 5000 == near(1. / 3 + 1 / (6 * count), 0.04));
    CHECK(detail::few_reference_policy(K).calibrated(3, 7).size() == 7);
  }
}

TEST_CASE("Errors: a count below 1, a KL that is wrong or out of reach") {
  const auto message = [](double kl, double count) {
    return error_of([=] { best_exponential(best_of{4}, at_kl{kl}, at_count{count}); });
  };
  CHECK(message(0.5, 0.5) == "best_exponential: expected a count of at least 1, got 0.5");
  CHECK(message(0.5, NaN) == "best_exponential: expected a count of at least 1, got NaN");
  CHECK(message(NaN, 8) == "best_exponential: expected a kl of at least 1e-12, got NaN");
  CHECK(message(5, 8).find("for so few references, got 5") != std::string::npos);
  CHECK(error_of([] { best_exponential(best_of{0}, at_kl{0.5}, at_count{8}); }) ==
        "best_of: expected n of at least 1, got 0");
}
