// SPDX-License-Identifier: MIT
#include <infalign/calibration/calibrate.hpp>
#include <infalign/calibration/unbiased_rank.hpp>
#include <infalign/transform/transforms.hpp>

#include "arrays.hpp"

#include <cmath>
#include <functional>
#include <numeric>
#include <random>
#include <vector>

using namespace infalign;
using Eigen::Index;

namespace {

/// P(Binomial(K, c) = b), by logarithms of the factorials.
long double binomial(Index b, Index K, long double c) {
  if (c == 0) return b == 0;
  if (c == 1) return b == K;
  const auto log_factorial = [](Index n) { return std::lgamma(static_cast<long double>(n + 1)); };
  return std::exp(log_factorial(K) - log_factorial(b) - log_factorial(K - b) +
                  static_cast<long double>(b) * std::log(c) + static_cast<long double>(K - b) * std::log1p(-c));
}

/// The mean of a rank functor over K reference rewards without ties, each below with probability c.
template <rank_functor Rank>
double mean(const Rank& rank, Index K, double c) {
  long double sum = 0;
  for (Index b = 0; b <= K; ++b) sum += binomial(b, K, c) * static_cast<long double>(rank(b, Index{0}, K));
  return static_cast<double>(sum);
}

/// The mean over every draw if each reference reward is below, tied or above with these probabilities.
template <rank_functor Rank>
double mean_with_ties(const Rank& rank, Index K, double below, double tied) {
  const double p[] = {below, tied, 1 - below - tied};
  std::size_t draws = 1;
  for (Index k = 0; k < K; ++k) draws *= 3;
  double sum = 0;
  for (std::size_t code = 0; code < draws; ++code) {
    Index count[3] = {0, 0, 0};
    double probability = 1;
    std::size_t rest = code;
    for (Index k = 0; k < K; ++k, rest /= 3) {
      ++count[rest % 3];
      probability *= p[rest % 3];
    }
    if (probability > 0) sum += probability * rank(count[0], count[1], K);
  }
  return sum;
}

const double tenths[] = {0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1};

/// Relative error; absolute if the truth is 0.
bool close(double x, double truth, double tolerance = 1e-10) {
  return std::abs(x - truth) <= tolerance * std::abs(truth) + (truth == 0 ? 1e-300 : 0);
}

/// Every m or n up to K if K is small, else a few of each size.
std::vector<int> sizes_up_to(Index K) {
  std::vector<int> sizes;
  for (int n = 1; n <= K; n += n < 9 ? 1 : n / 2) sizes.push_back(n);
  if (sizes.back() != K) sizes.push_back(static_cast<int>(K));
  return sizes;
}

}  // namespace

TEST_CASE("Unbiased ranks of small counts") {
  // 5 of 8 below: two of three pairs… C(5, 2)/C(8, 2) = 10/28.
  CHECK(unbiased_power{2}(5, 0, 8) == near(10. / 28, 1e-15));
  CHECK(unbiased_power{1}(5, 2, 8) == near(6. / 8, 1e-15));
  // Wins 1, ½, 0: the pairs' products are ½, 0, 0.
  CHECK(unbiased_power{2}(1, 1, 3) == near(1. / 6, 1e-15));
  // Two ties: ½·½ of one pair.
  CHECK(unbiased_power{2}(0, 2, 2) == near(0.25, 1e-15));
  // But the best of two that tie is one response that ties.
  CHECK(unbiased_win_probability{best_of{2}}(0, 2, 2) == 0.5);
  CHECK(unbiased_win_probability{best_of{2}}(1, 1, 3) == near(1. / 6, 1e-15));  // pairs: tied, lost, lost
  // The worst of 2 of {below, tied, above}: won, won, tied.
  CHECK(unbiased_win_probability{worst_of{2}}(1, 1, 3) == near(5. / 6, 1e-15));
  // The median of 3, 4 of 5 below: of the 10 triples those with at least 2 below, all of them.
  CHECK(unbiased_win_probability{order_statistic{2, 3}}(4, 0, 5) == 1);
  // 2 of 5 below: C(2, 2)·C(3, 1) = 3 of 10.
  CHECK(unbiased_win_probability{order_statistic{2, 3}}(2, 0, 5) == near(0.3, 1e-15));
  // ½·(Ĝ(4) + Ĝ(6)), Ĝ(b) the mean of (q^j − 1)/(q⁴ − 1) over 4-subsets of 8 with j of the b lowest, q = e^{10/4}
  CHECK(unbiased_win_probability{soft_best_of{4, 10}}(4, 2, 8) == near(.1495991773605521, 1e-14));
  // ₁F₁(−2; −30; 1) = 1 + 2/30 + 1/2·(2·1)/(30·29).
  CHECK(unbiased_exponential{1}(2, 0, 30) == near(1 + 2. / 30 + 1. / 870, 1e-15));
  CHECK(unbiased_exponential{-1}(28, 0, 30) == near(-std::exp(-1) * (1 + 2. / 30 + 1. / 870), 1e-15));
}

TEST_CASE("The mean of unbiased_power over all draws of the reference is C^m") {
  for (const Index K : {1, 2, 8, 32, 128})
    for (const int m : sizes_up_to(K))
      for (const double c : tenths) {
        CAPTURE(K, m, c);
        CHECK(close(mean(unbiased_power{m}, K, c), std::pow(c, m)));
      }
}

TEST_CASE("The mean of unbiased_win_probability over all draws of the reference is the win probability") {
  for (const Index K : {1, 2, 8, 32, 128})
    for (const int n : sizes_up_to(K))
      for (const double c : tenths) {
        CAPTURE(K, n, c);
        CHECK(close(mean(unbiased_win_probability{best_of{n}}, K, c), std::pow(c, n)));
        CHECK(close(mean(unbiased_win_probability{worst_of{n}}, K, c), c < 1 ? -std::expm1(n * std::log1p(-c)) : 1));
        for (const int k : {1, (n + 1) / 2, n}) {
          CAPTURE(k);
          long double truth = 0;  // P(at least k of n are below)
          for (int j = k; j <= n; ++j) truth += binomial(j, n, c);
          CHECK(close(mean(unbiased_win_probability{order_statistic{k, n}}, K, c), static_cast<double>(truth)));
        }
        if (n < 3) continue;
        array<double> weight = array<double>::Zero(n);
        weight[0] = 0.25, weight[2] = 0.5, weight[n - 1] += 0.25;
        CHECK(close(mean(unbiased_win_probability{random_best_of{weight}}, K, c),
                    0.25 * c + 0.5 * std::pow(c, 3) + 0.25 * std::pow(c, n)));
      }
}

TEST_CASE("The means are exact with ties too") {
  for (const Index K : {1, 2, 3, 5, 8})
    for (const double below : {0., 0.2, 0.5})
      for (const double tied : {0., 0.1, 0.5}) {
        CAPTURE(K, below, tied);
        const double c = below + tied / 2;
        for (int m = 1; m <= K; ++m) {
          CAPTURE(m);
          CHECK(close(mean_with_ties(unbiased_power{m}, K, below, tied), std::pow(c, m)));
          const auto ends = [&](const auto& t) { return 0.5 * (t.cdf(below) + t.cdf(below + tied)); };
          CHECK(close(mean_with_ties(unbiased_win_probability{best_of{m}}, K, below, tied), ends(best_of{m})));
          CHECK(close(mean_with_ties(unbiased_win_probability{worst_of{m}}, K, below, tied), ends(worst_of{m})));
          const order_statistic middle{(m + 1) / 2, m};
          CHECK(close(mean_with_ties(unbiased_win_probability{middle}, K, below, tied), ends(middle)));
        }
        for (const double t : {0.7, -0.7}) {  // the Taylor polynomial of degree K
          const double x = t > 0 ? t * c : -t * (1 - c);
          double term = 1, taylor = 1;
          for (int m = 1; m <= K; ++m) taylor += term *= x / m;
          CHECK(close(mean_with_ties(unbiased_exponential{t, 0.9}, K, below, tied),
                      t > 0 ? taylor : -std::exp(t) * taylor));
        }
      }
}

TEST_CASE(
    "The unbiased exponential increases with the count below, and its mean is the exponential within the tolerance") {
  for (const double t : {0.01, 1., 5., 10., 30., -0.01, -1., -5., -10., -30.})
    for (const double tolerance : {0.5, 1e-3, 1e-9}) {
      const unbiased_exponential rank{t, tolerance};
      const Index K = rank.smallest_count();
      CAPTURE(t, tolerance, K);
      double worst = 0;
      for (const double c : tenths) {
        const double truth = exponential{t}(c);
        worst = std::max(worst, std::abs(mean(rank, std::max<Index>(K, 1), c) / truth - 1));
      }
      CHECK(worst <= tolerance * (1 + 1e-10) + 1e-12);
      if (K > 1) {  // one fewer is too few
        double short_of = 0;
        const unbiased_exponential lax{t, 0.999999};
        for (const double c : tenths) {
          if (lax.smallest_count() > K - 1) continue;
          short_of = std::max(short_of, std::abs(mean(lax, K - 1, c) / exponential{t}(c)-1));
        }
        CHECK((short_of > tolerance || lax.smallest_count() > K - 1));
      }
      for (Index b = 0; b < K; ++b) CHECK(rank(b, 0, K) < rank(b + 1, 0, K));
    }
}

// (1 + C·(e^{t/K} − 1))^K, the mean of e^{tĈ}: 14 % above at t = 10, K = 32, C = 0.9.
TEST_CASE("The plug-in exponential is biased, and the unbiased one is not") {
  const auto plugged_in = [](Index below, Index tied, Index count) {
    return exponential{10}(mid_rank{}(below, tied, count));
  };
  CHECK(mean(plugged_in, 32, 0.9) / std::exp(9) == near(1.14, 0.005));
  CHECK(mean(plugged_in, 32, 0.9) == near(std::pow(1 + 0.9 * std::expm1(10. / 32), 32), 1e-8));
  CHECK(mean(unbiased_exponential{10}, 32, 0.9) / std::exp(9) == near(1, 1e-7));
}

TEST_CASE("No unbiased rank decreases in below or in tied") {
  const auto grows = [](const auto& rank, Index K) {
    int falls = 0;
    for (Index below = 0; below <= K; ++below)
      for (Index tied = 0; below + tied <= K; ++tied) {
        const double here = rank(below, tied, K), least = 1e-13 * std::abs(here);
        if (below + tied < K) falls += rank(below, tied + 1, K) < here - least;
        if (tied > 0) falls += rank(below + 1, tied - 1, K) < here - least;
      }
    CHECK(falls == 0);
  };
  for (const Index K : {8, 33}) {
    grows(unbiased_power{7}, K);
    grows(unbiased_win_probability{best_of{4}}, K);
    grows(unbiased_win_probability{worst_of{8}}, K);
    grows(unbiased_win_probability{order_statistic{3, 5}}, K);
  }
  grows(unbiased_exponential{10}, 32);
  grows(unbiased_exponential{-10}, 32);
}

TEST_CASE("A tabulated rank has the values of its functor") {
  const auto check = [](const auto& rank, Index K) {
    const tabulated_rank table{rank, K};
    double worst = 0;
    for (Index below = 0; below <= K; ++below)
      for (Index tied = 0; below + tied <= K; ++tied) {
        const double truth = rank(below, tied, K);
        worst = std::max(worst, std::abs(table(below, tied, K) - truth) / std::max(std::abs(truth), 1e-300));
      }
    CHECK(worst <= 1e-12);
    CHECK(table(1, 1, K + 5) == static_cast<double>(rank(1, 1, K + 5)));  // another count
  };
  for (const Index K : {1, 2, 9, 128}) {
    check(mid_rank{}, K);
    check(unbiased_power{1}, K);
    check(unbiased_win_probability{best_of{1}}, K);
  }
  check(unbiased_power{7}, 64);
  check(unbiased_win_probability{worst_of{4}}, 33);
  check(unbiased_exponential{10}, 48);
  check(unbiased_exponential{-10}, 48);

  int calls = 0;
  const tabulated_rank counted{[&calls](Index below, Index, Index) { return ++calls, static_cast<double>(below); }, 4};
  const int made = calls;
  CHECK(made == 16);  // 15 pairs of counts, and one call that checks the count
  CHECK(counted(3, 1, 4) == 3);
  CHECK(calls == made);
}

TEST_CASE("Unbiased ranks are rank functors for calibrate") {
  const matrix<float> reference{{1, 2, 2, 4}, {-1, -1, -1, 5}}, rewards{{3, 2}, {0, -1}};
  const auto u = calibrate(reference, rewards, unbiased_power{2});
  CHECK(u(0, 0) == near(0.5, 1e-7));       // 3 below: 3 of 6 pairs
  CHECK(u(0, 1) == near(1.25 / 6, 1e-7));  // wins 1, ½, ½, 0: ½ + ½ + ¼
  CHECK(u(1, 1) == near(0.75 / 6, 1e-7));  // wins ½, ½, ½, 0: 3 pairs of ¼
  const calibration shape{reference, tabulated_rank{unbiased_power{2}, 4}};
  CHECK((shape(rewards) == u).all());
}

// At large counts nothing underflows.
TEST_CASE("Sample CDFs are accurate at large sizes") {
  // C(b, n)/C(K, n) by logarithms of the factorials.
  const auto log_choose = [](long double n, long double k) {
    return std::lgamma(n + 1) - std::lgamma(k + 1) - std::lgamma(n - k + 1);
  };
  for (const int K : {200, 1000, 5000})
    for (const int n : {2, 40, 150})
      for (const int b : {n, K / 2 + n / 2, K - 3}) {
        CAPTURE(K, n, b);
        const auto truth = static_cast<double>(std::exp(log_choose(b, n) - log_choose(K, n)));
        CHECK(best_of{n}.sample_cdf(b, K) == near(truth, 1e-9 * truth));
        CHECK(order_statistic{n, n}.sample_cdf(b, K) == near(truth, 1e-9 * truth));
        double sum = 0;  // P(at least k of n among the b lowest), term by term
        const int k = std::max(1, n / 3);
        for (int j = k; j <= n; ++j)
          if (j <= b && n - j <= K - b)
            sum += static_cast<double>(std::exp(log_choose(b, j) + log_choose(K - b, n - j) - log_choose(K, n)));
        CHECK(order_statistic{k, n}.sample_cdf(b, K) == near(sum, 1e-9 * sum));
      }
}

TEST_CASE("Too few reference rewards, and counts out of range, are rejected") {
  CHECK(error_of([] { unbiased_power{5}(1, 0, 4); }) ==
        "unbiased_power: expected at least 5 reference rewards for m = 5, got 4");
  CHECK(error_of([] { unbiased_win_probability{best_of{5}}(1, 0, 4); }) ==
        "best_of: expected at least 5 responses to draw from, got 4");
  CHECK(error_of([] { unbiased_win_probability{worst_of{5}}(1, 0, 4); }) ==
        "worst_of: expected at least 5 responses to draw from, got 4");
  CHECK(error_of([] {
          unbiased_win_probability{order_statistic{2, 5}}(1, 0, 4);
        }) == "order_statistic: expected at least 5 responses to draw from, got 4");
  CHECK(error_of([] { best_of{2}.sample_cdf(5, 4); }) == "best_of: expected from 0 to 4 responses below, got 5");
  CHECK(error_of([] { plain_sampling{}.sample_cdf(-1, 4); }) ==
        "plain_sampling: expected from 0 to 4 responses below, got -1");
  CHECK(error_of([] {
          random_best_of{array<double>{{0.5, 0, 0.5}}}.sample_cdf(1, 2);
        }) == "random_best_of: expected at least 3 responses to draw from, got 2");
  CHECK(random_best_of{array<double>{{0.5, 0.5, 0}}}.sample_size() == 2);
  CHECK(error_of([] { unbiased_exponential{10}(1, 0, 16); }) ==
        "unbiased_exponential: expected at least 21 reference rewards for t = 10 within 0.001 of the exponential, got "
        "16");
  CHECK(error_of([] {
          tabulated_rank{unbiased_exponential{-10}, 16};
        }) ==
        "unbiased_exponential: expected at least 21 reference rewards for t = -10 within 0.001 of the exponential, got "
        "16");
  CHECK(error_of([] { tabulated_rank{mid_rank{}, 0}; }) == "tabulated_rank: expected a count from 1 to 32768, got 0");
}

TEST_CASE("Wrong parameters are rejected when a rank functor is made or put to use") {
  const matrix<float> reference = matrix<float>::Zero(1, 900), rewards{{1}};
  const auto error = [&](const auto& rank) {
    const std::string message = error_of([&] { calibrate(reference, rewards, rank); });
    CHECK(error_of([&] { calibration{reference, rank}; }) == message);
    CHECK(error_of([&] { tabulated_rank{rank, 900}; }) == message);
    return message;
  };
  CHECK(error(unbiased_power{0}) == "unbiased_power: expected m of at least 1, got 0");
  CHECK(error_of([] { unbiased_win_probability{best_of{0}}; }) == "best_of: expected n of at least 1, got 0");
  CHECK(error_of([] {
          unbiased_win_probability{order_statistic{6, 5}};
        }) == "order_statistic: expected k from 1 to n = 5, got 6");
  for (const double t : {0., 89., -89., infinity<double>, NaN})
    CHECK(error(unbiased_exponential{t}).find("t other than 0, from -88.7 to 88.7") != std::string::npos);
  for (const double tolerance : {0., 1., -1., NaN})
    CHECK(error(unbiased_exponential{1, tolerance}).find("a tolerance between 0 and 1") != std::string::npos);
}

TEST_CASE("A table of ranks has at most 4 GiB") {
  CHECK(error_of([] {
          tabulated_rank{mid_rank{}, 1'000'000'000};
        }) == "tabulated_rank: expected a count from 1 to 32768, got 1000000000");
}
