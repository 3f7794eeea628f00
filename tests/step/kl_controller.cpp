// SPDX-License-Identifier: MIT
#include <infalign/step/kl_controller.hpp>

#include "arrays.hpp"
#include "catch.hpp"

#include <algorithm>
#include <cmath>
#include <random>
#include <type_traits>

using namespace infalign;

namespace {
struct measured {
  double kl, kl_per_token, sequences;
};
}  // namespace

TEST_CASE("A fixed controller never changes beta") {
  fixed_kl control{.beta = 0.05};
  control.update(measured{.kl = 100, .kl_per_token = 1, .sequences = 64});
  CHECK(control.beta == 0.05);
}

// β·(1 + clip(kl/target − 1, −0.2, 0.2)·min(n/horizon, 1))
TEST_CASE("The adaptive controller changes beta by the clipped relative error") {
  const auto updated = [](double kl, double n) {
    adaptive_kl_per_sequence control{.beta = 0.1, .target = 6, .horizon = 1000};
    control.update(kl, n);
    return control.beta;
  };
  CHECK(updated(6, 250) == 0.1);                    // on target
  CHECK(updated(6.6, 250) == near(0.1025, 1e-16));  // +0.1·250/1000
  CHECK(updated(5.4, 250) == near(0.0975, 1e-16));  // −0.1·250/1000
  CHECK(updated(7.2, 500) == near(0.11, 1e-16));    // +0.2·500/1000
  CHECK(updated(12, 500) == near(0.11, 1e-16));     // clipped
  CHECK(updated(0, 500) == near(0.09, 1e-16));      // clipped
  CHECK(updated(-3, 500) == near(0.09, 1e-16));     // an estimate may be negative
  CHECK(updated(12, 0) == 0.1);                     // no responses
  CHECK(updated(12, 5000) == near(0.12, 1e-16));    // n/horizon is at most 1
  CHECK(updated(0, 1e9) == near(0.08, 1e-16));      // so that beta stays above 0
  CHECK(adaptive_kl_per_token{.beta = 1, .target = 1}.horizon == 10000);
}

TEST_CASE("A controller reads the KL in its unit from the metrics") {
  const measured metrics{.kl = 6.6, .kl_per_token = 0.09, .sequences = 100};
  adaptive_kl_per_sequence by_sequence{.beta = 0.1, .target = 6, .horizon = 1000};
  adaptive_kl_per_token by_token{.beta = 0.1, .target = 0.1, .horizon = 1000};
  by_sequence.update(metrics);
  by_token.update(metrics);
  CHECK(by_sequence.beta == near(0.101, 1e-16));
  CHECK(by_token.beta == near(0.099, 1e-16));
}

TEST_CASE("A controller is an aggregate of plain data, and its bounds are about its first beta") {
  STATIC_REQUIRE(std::is_aggregate_v<adaptive_kl_per_token>);
  STATIC_REQUIRE(std::is_trivially_copyable_v<adaptive_kl_per_token>);
  adaptive_kl_per_sequence control{.beta = 0.5, .target = 6};
  CHECK(control.least == near(0.005, 1e-16));
  CHECK(control.most == 50);
  control.update(100, 10000);
  CHECK(control.beta == near(0.6, 1e-15));
  CHECK(control.most == 50);
  const adaptive_kl_per_sequence own{.beta = 0.5, .target = 6, .least = 0.4, .most = 1e300};
  CHECK(own.least == 0.4);
  CHECK(own.most == 1e300);
}

TEST_CASE("Beta stops at a bound, and leaves it in the first step whose error has the other sign") {
  adaptive_kl_per_sequence control{.beta = 1, .target = 6, .horizon = 100, .least = 0.5, .most = 2};
  CHECK(!control.at_bound());
  for (int i = 0; i < 1000; ++i) control.update(600, 100);
  CHECK(control.beta == 2);
  CHECK(control.at_bound());
  control.update(5.4, 100);
  CHECK(control.beta == near(1.8, 1e-15));  // 2·(1 − 0.1)
  CHECK(!control.at_bound());
  for (int i = 0; i < 1000; ++i) control.update(-1, 100);
  CHECK(control.beta == 0.5);
  CHECK(control.at_bound());
  control.update(6.6, 100);
  CHECK(control.beta == near(0.55, 1e-15));  // ½·(1 + 0.1)
  CHECK(!control.at_bound());
}

namespace {

/// A policy whose KL tends to 0.3/β, but not below `floor`, with a lag of 20 steps. It is measured with noise.
struct noisy_policy {
  std::mt19937 random{1};
  double kl = 0, floor = 0;

  /// A factor from 1 − width to 1 + width.
  double noise(double width) { return 1 + width * (2 * static_cast<double>(random()) / 0x1p32 - 1); }
  /// One step of training; the noise of the learning rate moves the KL, and that of the batch its measurement.
  double step(double beta) {
    kl += (std::max(0.3 / beta, floor) * noise(0.5) - kl) / 20;
    return kl * noise(0.5);
  }
};

}  // namespace

// 0.3/β is 6 at β = 0.05. β starts 20 times too large or too small.
TEST_CASE("On a policy with lag and noise the mean KL comes to the target within 1 %, and beta stays in its bounds") {
  for (const double first : {1.0, 0.0025}) {
    noisy_policy policy;
    adaptive_kl_per_sequence control{.beta = first, .target = 6};
    double sum = 0;
    int outside = 0, bound = 0;
    for (int i = 0; i < 10000; ++i) {
      const double measured = policy.step(control.beta);
      control.update(measured, 512);
      outside += !(control.beta >= first / 100 && control.beta <= first * 100);
      bound += control.at_bound();
      if (i >= 8000) sum += policy.kl;
    }
    CHECK(outside == 0);
    CHECK(bound == 0);
    CHECK(sum / 2000 == near(6, 0.06));
    CHECK(control.beta == near(0.05, 0.015));
  }
}

// Without bounds β would be 1.01^10,000 times as large, and would need 10,000 steps to return.
TEST_CASE("If the target is out of reach beta stays at its bound, and returns in 500 steps once it is in reach") {
  noisy_policy policy;
  adaptive_kl_per_sequence control{.beta = 0.05, .target = 6};
  policy.floor = 30;
  int inside = 0;
  for (int i = 0; i < 10000; ++i) {
    control.update(policy.step(control.beta), 512);
    if (i >= 500) inside += control.beta != 5;
  }
  CHECK(inside == 0);  // a factor of 100 takes 452 steps
  CHECK(control.at_bound());
  policy.floor = 0;
  int steps = 0;
  while (control.beta > 2 * 0.05 && steps < 10000) control.update(policy.step(control.beta), 512), ++steps;
  CHECK(steps <= 500);  // a factor of 50 takes 380 steps, and the KL has its lag
  double sum = 0;
  for (int i = 0; i < 3000; ++i) {
    control.update(policy.step(control.beta), 512);
    if (i >= 1000) sum += policy.kl;
  }
  CHECK(sum / 2000 == near(6, 0.06));
}

TEST_CASE("An invalid parameter or measurement is rejected, and beta is unchanged") {
  const auto rejected = [](adaptive_kl_per_sequence control, double kl, double n) {
    const double before = control.beta;
    const auto message = error_of([&] { control.update(kl, n); });
    const bool unchanged = control.beta == before || std::isnan(before);
    return unchanged ? message : "changed";
  };
  const adaptive_kl_per_sequence good{.beta = 0.1, .target = 6};
  CHECK(rejected(good, NaN, 1) == "adaptive_kl: expected a finite kl, got NaN");
  CHECK(rejected(good, infinity<double>, 1) == "adaptive_kl: expected a finite kl, got inf");
  CHECK(rejected(good, 1, -1) == "adaptive_kl: expected n of at least 0, got -1");
  CHECK(rejected(good, 1, NaN) == "adaptive_kl: expected n of at least 0, got NaN");
  CHECK(rejected(good, 1, infinity<double>) == "adaptive_kl: expected n of at least 0, got inf");
  CHECK(rejected({.beta = 0, .target = 6}, 1, 1) == "adaptive_kl: expected a beta finite and above 0, got 0");
  CHECK(rejected({.beta = NaN, .target = 6}, 1, 1) == "adaptive_kl: expected a beta finite and above 0, got NaN");
  CHECK(rejected({.beta = infinity<double>, .target = 6}, 1, 1) ==
        "adaptive_kl: expected a beta finite and above 0, got inf");
  CHECK(rejected({.beta = 0.1, .target = 0}, 1, 1) == "adaptive_kl: expected a target finite and above 0, got 0");
  CHECK(rejected({.beta = 0.1, .target = -6}, 1, 1) == "adaptive_kl: expected a target finite and above 0, got -6");
  CHECK(rejected({.beta = 0.1, .target = 6, .horizon = 0}, 1, 1) ==
        "adaptive_kl: expected a horizon finite and above 0, got 0");
  CHECK(rejected({.beta = 0.1, .target = 6, .horizon = infinity<double>}, 1, 1) ==
        "adaptive_kl: expected a horizon finite and above 0, got inf");
  CHECK(rejected({.beta = 0.1, .target = 6, .least = 0}, 1, 1) ==
        "adaptive_kl: expected a smallest beta (least) finite and above 0, got 0");
  CHECK(rejected({.beta = 0.1, .target = 6, .most = infinity<double>}, 1, 1) ==
        "adaptive_kl: expected a largest beta (most) finite and above 0, got inf");
  CHECK(rejected({.beta = 0.1, .target = 6, .least = 0.2}, 1, 1) ==
        "adaptive_kl: expected a beta from 0.2 to 10, got 0.1");
  CHECK(rejected({.beta = 0.1, .target = 6, .most = 0.05}, 1, 1) ==
        "adaptive_kl: expected a beta from 0.001 to 0.05, got 0.1");
  CHECK(error_of([&] { good.check(); }) == "no error");
  CHECK(error_of([&] { detail::check_part<double>(adaptive_kl_per_token{.beta = 0.1, .target = 0}); }) ==
        "adaptive_kl: expected a target finite and above 0, got 0");
}
