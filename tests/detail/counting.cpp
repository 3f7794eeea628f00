// SPDX-License-Identifier: MIT
#include <infalign/calibration/calibrate.hpp>
#include <infalign/detail/counting.hpp>

#include "arrays.hpp"

#include <cmath>
#include <random>

using namespace infalign;
using Eigen::Index;

TEMPLATE_TEST_CASE("Counts of many responses in long rows are exact", "", float, double) {
  using S = TestType;
  const S inf = infinity<S>;
  std::mt19937 random(7);
  for (Index K : {3'071, 3'072, 4'099, 8'192, 8'193}) {
    const auto reward = [&]() -> S {  // many ties, zeros of both signs, infinities
      const auto x = random() % 1'000;
      if (x < 3) return x == 0 ? inf : x == 1 ? -inf : -S{0};
      return static_cast<S>(static_cast<int>(x) - 500) / 8;
    };
    const matrix<S> reference = matrix<S>::NullaryExpr(2, K, reward);
    matrix<S> rewards = matrix<S>::NullaryExpr(2, 1'500, reward);
    rewards(1, 700) = missing<S>;
    const auto check = [&](const auto& rank) {
      const matrix<S> together = calibrate(reference, rewards, rank, unscored::propagate);
      for (Index p = 0; p < 2; ++p)
        for (Index m = 0; m < rewards.cols(); ++m) {
          const S r = rewards(p, m);
          const auto below = (reference.row(p) < r).count(), tied = (reference.row(p) == r).count();
          if (p == 1 && m == 700)
            CHECK(std::isnan(together(p, m)));
          else if (together(p, m) != static_cast<S>(rank(below, tied, K)))
            FAIL_CHECK("K = " << K << ", row " << p << ", column " << m);
        }
    };
    check(mid_rank{});
    check(strict_rank{});
    check(weak_rank{});
  }
}
