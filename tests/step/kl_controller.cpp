// SPDX-License-Identifier: MIT
#include <infalign/step/kl_controller.hpp>

#include "catch.hpp"

#include <limits>

using namespace infalign;

namespace {
struct measured {
  double kl, kl_per_token, sequences;
};
const double NaN = std::numeric_limits<double>::quiet_NaN();
const double infinity = std::numeric_limits<double>::infinity();
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

TEST_CASE("An invalid parameter or measurement is rejected, and beta is unchanged") {
  const auto rejected = [](adaptive_kl_per_sequence control, double kl, double n) {
    const double before = control.beta;
    const auto message = error_of([&] { control.update(kl, n); });
    const bool unchanged = control.beta == before || std::isnan(before);
    return unchanged ? message : "changed";
  };
  const adaptive_kl_per_sequence good{.beta = 0.1, .target = 6};
  CHECK(rejected(good, NaN, 1) == "adaptive_kl: expected a finite kl, got NaN");
  CHECK(rejected(good, infinity, 1) == "adaptive_kl: expected a finite kl, got inf");
  CHECK(rejected(good, 1, -1) == "adaptive_kl: expected n of at least 0, got -1");
  CHECK(rejected(good, 1, NaN) == "adaptive_kl: expected n of at least 0, got NaN");
  CHECK(rejected(good, 1, infinity) == "adaptive_kl: expected n of at least 0, got inf");
  CHECK(rejected({.beta = 0, .target = 6}, 1, 1) == "adaptive_kl: expected a beta finite and above 0, got 0");
  CHECK(rejected({.beta = NaN, .target = 6}, 1, 1) == "adaptive_kl: expected a beta finite and above 0, got NaN");
  CHECK(rejected({.beta = infinity, .target = 6}, 1, 1) == "adaptive_kl: expected a beta finite and above 0, got inf");
  CHECK(rejected({.beta = 0.1, .target = 0}, 1, 1) == "adaptive_kl: expected a target finite and above 0, got 0");
  CHECK(rejected({.beta = 0.1, .target = -6}, 1, 1) == "adaptive_kl: expected a target finite and above 0, got -6");
  CHECK(rejected({.beta = 0.1, .target = 6, .horizon = 0}, 1, 1) ==
        "adaptive_kl: expected a horizon finite and above 0, got 0");
  CHECK(rejected({.beta = 0.1, .target = 6, .horizon = infinity}, 1, 1) ==
        "adaptive_kl: expected a horizon finite and above 0, got inf");
  CHECK(error_of([&] { good.check(); }) == "no error");
  CHECK(error_of([&] { detail::check_part<double>(adaptive_kl_per_token{.beta = 0.1, .target = 0}); }) ==
        "adaptive_kl: expected a target finite and above 0, got 0");
}
