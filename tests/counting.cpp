// SPDX-License-Identifier: MIT
#include "catch.hpp"

#include <infalign/calibration.hpp>
#include <infalign/counting.hpp>

#include <cmath>
#include <limits>
#include <random>
#include <vector>

using namespace infalign;
using Eigen::Index;

namespace {

/// Every pair compared, one by one.
template <real_scalar S>
detail::counts one_by_one(const array<S>& row, S reward) {
  detail::counts c;
  for (const S z : row) {
    c.below += !std::isnan(z) && z < reward;
    c.tied += !std::isnan(z) && z == reward;
  }
  return c;
}

template <real_scalar S>
S any_reward(std::mt19937& random, bool with_nan) {
  constexpr S inf = std::numeric_limits<S>::infinity(), most = std::numeric_limits<S>::max(),
              least = std::numeric_limits<S>::denorm_min();
  const S special[] = {0, -S{0}, 1, -1, inf, -inf, most, -most, least, -least, std::numeric_limits<S>::quiet_NaN()};
  const auto kind = random() % 40;
  if (kind < 10) return special[kind];
  if (kind == 10 && with_nan) return special[10];
  return static_cast<S>(static_cast<int>(random() % 21)) / 4 - 2;
}

}  // namespace

TEMPLATE_TEST_CASE("Counts are those of every pair compared", "", float, double) {
  using S = TestType;
  std::mt19937 random(1);
  int wrong = 0, seen = 0;
  for (Index K = 1; K <= 70; ++K)
    for (Index M : {0, 1, 2, 3, 4, 5, 7, 8, 9, 12, 13, 16, 17, 40})
      for (const bool with_nan : {false, true}) {
        array<S> row = array<S>::NullaryExpr(K, [&] { return any_reward<S>(random, with_nan); });
        row[K - 1] = 1;
        const array<S> rewards = array<S>::NullaryExpr(M, [&] { return any_reward<S>(random, with_nan); });
        Index scored = 0;
        for (const S z : row) scored += !std::isnan(z);
        std::vector<int> times(static_cast<std::size_t>(M), 0);
        detail::count_each(row.data(), K, scored, rewards.data(), M, [&](Index first, int n, const auto& counts) {
          for (int j = 0; j < n; ++j) {
            ++times[static_cast<std::size_t>(first + j)];
            if (std::isnan(rewards[first + j])) continue;
            const auto truth = one_by_one(row, rewards[first + j]);
            wrong += counts[j].below != truth.below || counts[j].tied != truth.tied;
            ++seen;
          }
        });
        for (const int n : times) wrong += n != 1;
      }
  CHECK(wrong == 0);
  CHECK(seen > 18000);
}

TEMPLATE_TEST_CASE("Scored rewards are counted, whatever they sum to", "", float, double) {
  using S = TestType;
  constexpr S inf = std::numeric_limits<S>::infinity(), most = std::numeric_limits<S>::max(),
              nan = std::numeric_limits<S>::quiet_NaN();
  const auto scored = [](const array<S>& row, unscored policy) {
    return detail::count_scored("count", "reference", row.data(), row.size(), 7, policy);
  };
  for (Index K = 1; K <= 40; ++K) {
    CHECK(scored(array<S>::Constant(K, most), unscored::error) == K);  // the sum overflows
    CHECK(scored(array<S>::Constant(K, inf), unscored::error) == K);
    array<S> row = array<S>::Constant(K, inf);
    row[K / 2] = -inf;  // the sum is NaN
    CHECK(scored(row, unscored::error) == K);
    row[K - 1] = nan;
    CHECK(error_of([&] { scored(row, unscored::error); }) ==
          "count: expected reference rewards that are numbers, got NaN at row 7, column " + std::to_string(K - 1));
    if (K > 1) CHECK(scored(row, unscored::carry) == K - 1);
  }
  const std::string none = "count: expected at least one reference reward for each prompt, got none at row 7";
  CHECK(error_of([&] { scored(array<S>(0), unscored::error); }) == none);
  CHECK(error_of([&] { scored(array<S>::Constant(9, nan), unscored::carry); }) == none);
}

// Above 1,023 responses to a prompt a row of 3,072 to 8,192 is sorted and searched.
TEMPLATE_TEST_CASE("Sorted rows give the counts that counting gives, bit for bit", "", float, double) {
  using S = TestType;
  const S inf = std::numeric_limits<S>::infinity();
  std::mt19937 random(7);
  for (Eigen::Index K : {3'071, 3'072, 4'099, 8'192, 8'193}) {
    const auto reward = [&]() -> S {  // many ties, zeros of both signs, infinities
      const auto x = random() % 1'000;
      if (x < 3) return x == 0 ? inf : x == 1 ? -inf : -S{0};
      return static_cast<S>(static_cast<int>(x) - 500) / 8;
    };
    const matrix<S> reference = matrix<S>::NullaryExpr(2, K, reward);
    matrix<S> rewards = matrix<S>::NullaryExpr(2, 1'500, reward);
    rewards(1, 700) = std::numeric_limits<S>::quiet_NaN();
    const auto check = [&](const auto& rank) {
      const matrix<S> together = calibrate(reference, rewards, rank, unscored::carry);
      for (Eigen::Index p = 0; p < 2; ++p)
        for (Eigen::Index m = 0; m < rewards.cols(); ++m) {
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
