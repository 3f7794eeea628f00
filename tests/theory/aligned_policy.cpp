// SPDX-License-Identifier: MIT
#include <infalign/calibration/calibrate.hpp>
#include <infalign/measure/exact_win_rate.hpp>
#include <infalign/theory/aligned_policy.hpp>

#include "arrays.hpp"

#include <algorithm>
#include <cmath>
#include <random>
#include <string>
#include <vector>

using namespace infalign;

namespace {

/// ∫ f over [0, 1] in long double: Simpson's rule on cells that halve towards both ends.
template <class F>
long double simpson(const F& f) {
  const auto over = [&](long double a, long double b) {
    constexpr int n = 200;
    long double sum = f(a) + f(b);
    for (int i = 1; i < n; ++i) sum += (i % 2 ? 4 : 2) * f(a + (b - a) * i / n);
    return sum * (b - a) / n / 3;
  };
  long double sum = 0, h = 0.5L;
  for (int k = 0; k < 40; ++k, h /= 2) sum += over(h / 2, h) + over(1 - h, 1 - h / 2);
  return sum;
}

template <class F>
void check_against_simpson(const F& phi, long double beta, int n) {
  // phi in long double; the policy used with best-of-n against one sample: W = 1 - ∫ F^n du.
  const auto weight = [&](long double u) { return std::exp((phi(u) - phi(1.0L)) / beta); };
  const long double total = simpson(weight);
  const long double kl = simpson([&](long double u) { return weight(u) / total * std::log(weight(u) / total); });
  const aligned_policy policy([&](double u) { return static_cast<double>(phi(u)); },
                              at_beta{static_cast<double>(beta)});
  CAPTURE(static_cast<double>(beta));
  CHECK(policy.kl() == near(static_cast<double>(kl), 1e-10));
  CHECK(policy.log_density(0.75) ==
        near(static_cast<double>(std::log(weight(0.75L) / total)), 1e-10 * (1 + std::abs(policy.log_density(0.75)))));
  CHECK(policy.win_rate(plain_sampling{}) ==
        near(static_cast<double>(simpson([&](long double u) { return u * weight(u) / total; })), 1e-10));
  // W for best-of-n against one: E[u of the best] = ∫ u dF^n, by parts ∫ (1 − F^n).
  const double by_quantiles =
      static_cast<double>(1 - simpson([&](long double u) {
                            return std::pow(static_cast<long double>(policy.cdf(static_cast<double>(u))), n);
                          }));
  CHECK(policy.win_rate(best_of{n}, plain_sampling{}) == near(by_quantiles, 1e-9));
}

}  // namespace

TEST_CASE("For the identity and one sample, KL and W are their closed forms") {
  for (double beta : {1e-4, 1e-3, 0.02, 0.5, 3.0, 40.0}) {
    CAPTURE(beta);
    const long double x = 1 / static_cast<long double>(beta);
    const long double W = 1 / -std::expm1(-x) - 1 / x;
    const long double kl = W * x - x - std::log(-std::expm1(-x) / x);  // W/β − log(β(e^{1/β} − 1))
    const aligned_policy policy(identity{}, at_beta{beta});
    CHECK(policy.win_rate(plain_sampling{}) == near(static_cast<double>(W), 1e-12));
    CHECK(policy.kl() == near(static_cast<double>(kl), 1e-12 * std::max(1.0, static_cast<double>(kl))));
    CHECK(policy.loss_rate(plain_sampling{}, plain_sampling{}) == near(static_cast<double>(1 - W), 1e-12));
  }
  for (double beta : {1e3, 1e4}) {  // the series: KL = x²/24 − x⁴/960, W = ½ + x/12 − x³/720
    const double x = 1 / beta;
    const aligned_policy policy(identity{}, at_beta{beta});
    CHECK(policy.kl() == near(x * x / 24 - x * x * x * x / 960, 1e-10 * x * x));
    CHECK(policy.win_rate(plain_sampling{}) == near(0.5 + x / 12 - x * x * x / 720, 1e-12));
  }
}

TEST_CASE("For the logarithm the policy is u^m, and KL, W and CDF are their closed forms") {
  for (double beta : {0.01, 0.1, 1.0 / 3, 1.0, 7.0, 1e4}) {
    CAPTURE(beta);
    const double m = 1 / beta;
    const aligned_policy policy(logarithm{}, at_beta{beta});
    CHECK(policy.kl() == near(std::log1p(m) - m / (m + 1), 1e-12));
    CHECK(policy.win_rate(plain_sampling{}) == near((m + 1) / (m + 2), 1e-12));
    for (double u : {0.01, 0.3, 0.9, 0.999}) {
      CHECK(policy.cdf(u) == near(std::pow(u, m + 1), 1e-11 * std::pow(u, m + 1)));
      CHECK(policy.density(u) == near((m + 1) * std::pow(u, m), 1e-11 * (m + 1)));
      CHECK(policy.quantile(policy.cdf(u)) == near(u, 1e-9));
    }
  }
  // At β = 1/(N − 1) it is best-of-N of the reference.
  const aligned_policy best_of_4(logarithm{}, at_beta{1.0 / 3});
  for (double u : {0.1, 0.5, 0.8}) CHECK(best_of_4.cdf(u) == near(best_of{4}.cdf(u), 1e-12));
}

TEST_CASE("Exponentials and powers at any beta agree with an independent quadrature in long double") {
  for (long double beta : {1e-4L, 1e-2L, 0.3L, 1e4L}) {
    check_against_simpson([](long double u) { return std::expm1(10 * u) / std::expm1(10.0L); }, beta, 4);
    check_against_simpson([](long double u) { return u * u * u * u * u * u * u; }, beta, 4);
  }
  for (long double beta : {1e-2L, 0.3L, 1e4L})
    check_against_simpson([](long double u) { return std::expm1(-10 * u) / std::expm1(-10.0L); }, beta, 2);
}

TEST_CASE("A transform is called for numbers in [0, 1] only") {
  for (const double slope : {-3., 0.1, 5.}) {
    double low = 1, high = 0;
    const aligned_policy policy(
        [&low, &high, slope](double u) {
          low = std::min(low, u), high = std::max(high, u);
          return slope * u;
        },
        at_beta{0.5});
    CHECK(policy.kl() > 0);
    CHECK(policy.win_rate(best_of{4}) > 0);
    CHECK(policy.cdf(policy.quantile(0.3)) == near(0.3, 1e-9));
    CHECK(low >= 0);
    CHECK(high == 1);
  }
}

TEST_CASE("No narrow peak is missed: a density like the normal distribution, however narrow, wherever it is") {
  for (const double middle : {0.30012345, 0.5, 0.871})
    for (const double deviation : {1e-2, 1e-4, 1e-6}) {
      CAPTURE(middle, deviation);
      const auto hill = [middle](double u) { return -(u - middle) * (u - middle); };
      const aligned_policy policy(hill, at_beta{2 * deviation * deviation});
      // −log of the deviation less the entropy of a standard normal number
      CHECK(policy.kl() == near(-std::log(deviation) - 1.4189385332046727, 1e-6));
      CHECK(policy.cdf(middle) == near(0.5, 1e-6));
      CHECK(policy.cdf(middle + deviation) == near(0.8413447460685429, 1e-6));
      CHECK(policy.win_rate(plain_sampling{}) == near(middle, 1e-6));
    }
  for (const double beta : {1e-2, 1e-4, 1e-8}) {  // an exponential distribution: all at 0, or all just below 1
    const aligned_policy falling([](double u) { return -u; }, at_beta{beta});
    CHECK(falling.kl() == near(-std::log(beta) - 1, 1e-6));
    CHECK(falling.cdf(beta) == near(1 - std::exp(-1), 1e-6));
  }
  for (const double beta : {1e-5, 1e-9}) {  // a peak with a corner, near the end
    const aligned_policy bent([](double u) { return -std::abs(u - 0.9991); }, at_beta{beta});
    CHECK(bent.kl() == near(-std::log(2 * beta) - 1, 1e-6));
  }
}

TEST_CASE("A scale of the transform and of beta, and a shift, change nothing") {
  const aligned_policy one(exponential{10}, at_beta{5000});
  const aligned_policy other(normalized_exponential{10}, at_beta{5000 / std::expm1(10.0)});
  CHECK(one.kl() == near(other.kl(), 1e-11));
  CHECK(one.win_rate(best_of{4}) == near(other.win_rate(best_of{4}), 1e-11));
}

// 1 − W = ∫ u^{m+1} n(1 − u)^{n−1} du = n·B(m + 2, n) for one sample of u^m against worst-of-n.
TEST_CASE("1 - W is relatively accurate, however small") {
  for (double m : {1.0, 10.0, 100.0})
    for (int n : {1, 4, 20, 64}) {
      CAPTURE(m, n);
      const double truth = std::exp(std::log(n) + std::lgamma(m + 2) + std::lgamma(n) - std::lgamma(m + 2 + n));
      const aligned_policy policy(logarithm{}, at_beta{1 / m});
      CHECK(policy.loss_rate(plain_sampling{}, worst_of{n}) == near(truth, 1e-9 * truth));
    }
  // Values of the transform far below its maximum, and their rounding, do no harm.
  const aligned_policy policy([](double u) { return -std::exp(-80 * u); }, at_beta{1e-15});
  CHECK(policy.relative_error() == 1e-11);
  CHECK(error_of([] { aligned_policy([](double u) { return 1 - std::exp(-80 * u); }, at_beta{1e-15}); }) ==
        "aligned_policy: expected a beta that rounding does not drown, got 1e-15");
}

TEST_CASE("The policy for a KL has that KL, and tradeoff gives the policy of each beta") {
  for (double kl : {1e-6, 0.1, 0.5, 2.0})
    CHECK(aligned_policy(exponential{-10}, at_kl{kl}).kl() == near(kl, 1e-9 * kl));
  const auto curve = tradeoff(identity{}, best_of{4}, plain_sampling{}, {0.1, 1.0});
  REQUIRE(curve.size() == 2);
  const aligned_policy policy(identity{}, at_beta{0.1});
  CHECK(curve[0].beta == 0.1);
  CHECK(curve[0].kl == policy.kl());
  CHECK(curve[0].win_rate == policy.win_rate(best_of{4}, plain_sampling{}));
  CHECK(curve[1].kl < curve[0].kl);
}

TEST_CASE("KL and win rate depend neither on the reward nor on the model") {
  std::mt19937 random(11);
  std::normal_distribution<double> normal;
  std::uniform_real_distribution<double> uniform;
  const Eigen::Index K = 4000;
  const auto check = [&](const auto& reward) {
    array<double> reference(K), rewards(K);
    for (Eigen::Index k = 0; k < K; ++k) {
      reference[k] = std::exp(normal(random));
      rewards[k] = reward();
    }
    reference /= reference.sum();
    // The calibrated reward in full: the reference's mid-rank CDF. Its error is of the order of the largest
    // probability, about 0.01.
    array<double> u(K);
    for (Eigen::Index k = 0; k < K; ++k)
      u[k] =
          ((rewards < rewards[k]).select(reference, 0.0) + 0.5 * (rewards == rewards[k]).select(reference, 0.0)).sum();
    const auto agrees = [&](const auto& phi, const auto& procedure) {
      const aligned_policy theory(phi, at_kl{0.5});
      array<double> policy = reference * (transform(u, phi) / theory.beta()).exp();
      policy /= policy.sum();
      CHECK((policy * (policy / reference).log()).sum() == near(0.5, 2e-3));
      CHECK(exact_win_rate(rewards, policy, reference, procedure) == near(theory.win_rate(procedure), 2e-3));
    };
    agrees(identity{}, plain_sampling{});
    agrees(normalized_exponential{10}, best_of{4});
    agrees(normalized_exponential{-10}, worst_of{4});
  };
  check([&] { return normal(random); });
  check([&] { return std::exp(3 * normal(random)); });                                           // skewed
  check([&] { return normal(random) / normal(random); });                                        // heavy tails
  check([&] { return uniform(random) < 0.3 ? 1000 + normal(random) : 1e-3 * normal(random); });  // two scales
  check([&] { return std::floor(2000 * uniform(random)); });                                     // with ties
}

TEST_CASE("Invalid beta, KL, transforms and procedures are rejected") {
  CHECK(error_of([] { aligned_policy(identity{}, at_beta{0}); }) ==
        "aligned_policy: expected a beta finite and above 0, got 0");
  CHECK(error_of([] { aligned_policy(exponential{0}, at_beta{1}); }) ==
        "exponential: expected t finite and not 0, got 0");
  CHECK(error_of([] { aligned_policy([](double u) { return 1 / (1 - u); }, at_beta{1}); }) ==
        "aligned_policy: expected a transform that is finite on (0, 1], got inf at 1");
  CHECK(error_of([] { aligned_policy(identity{}, at_kl{-1}); }) ==
        "aligned_policy: expected a kl of at least 1e-12, got -1");
  CHECK(error_of([] { aligned_policy([](double) { return 2.0; }, at_kl{1}); }) ==
        "aligned_policy: expected a kl of at most 0, which this transform reaches, got 1");
  // KL = log(1/β) − 1 at a small β: what a double reaches, and what the error says is possible.
  CHECK(aligned_policy(identity{}, at_kl{20}).beta() == near(std::exp(-21.0), 1e-6 * std::exp(-21.0)));
  const auto error = error_of([] { aligned_policy(identity{}, at_kl{100}); });
  REQUIRE(error.substr(0, 43) == "aligned_policy: expected a kl of at most 25");
  const double most = std::stod(error.substr(40));
  CHECK(aligned_policy(identity{}, at_kl{most * (1 - 1e-9)}).kl() == near(most, 1e-7));
  CHECK(error_of([] { aligned_policy(identity{}, at_beta{1e-30}); }) ==
        "aligned_policy: expected a beta that rounding does not drown, got 1e-30");
  const aligned_policy plain(identity{}, at_beta{1});
  for (const double outside : {-0.5, 0., 1., 1.5}) CHECK(plain.cdf(outside) == std::clamp(outside, 0., 1.));
  CHECK(plain.quantile(0) == 0);
  CHECK(plain.quantile(1) == 1);
  CHECK(error_of([&] { plain.quantile(-0.1); }) == "aligned_policy: expected a probability in [0, 1], got -0.1");
  CHECK(error_of([&] { plain.quantile(NaN); }) == "aligned_policy: expected a probability in [0, 1], got NaN");
  for (const double kl : {0., -1., NaN, infinity<double>})
    CHECK(error_of([kl] {
            aligned_policy(identity{}, at_kl{kl});
          }).find("aligned_policy: expected a kl of at least 1e-12") == 0);
  CHECK(error_of([] { aligned_policy(identity{}, at_beta{1}).quantile(1.5); }) ==
        "aligned_policy: expected a probability in [0, 1], got 1.5");
  const aligned_policy policy(identity{}, at_beta{1});
  CHECK(error_of([&] { policy.win_rate(best_of{0}); }) == "best_of: expected n of at least 1, got 0");
  CHECK(error_of([&] { policy.loss_rate(best_of{1}, worst_of{0}); }) == "worst_of: expected n of at least 1, got 0");
  CHECK(error_of([&] { tradeoff(identity{}, best_of{0}, plain_sampling{}, {0.1}); }) ==
        "best_of: expected n of at least 1, got 0");
}

TEST_CASE("A procedure from its CDF alone has the win rates of the procedure with a density") {
  const aligned_policy policy(normalized_exponential{10}, at_kl{0.5});
  const auto check = [&](const auto& t) {
    const from_cdf numeric([&](double u) { return t.cdf(u); });
    CHECK(policy.win_rate(numeric) == near(policy.win_rate(t), 1e-9));
    CHECK(policy.win_rate(plain_sampling{}, numeric) == near(policy.win_rate(plain_sampling{}, t), 1e-9));
  };
  check(best_of{4});
  check(worst_of{4});
  check(order_statistic{3, 5});
}
