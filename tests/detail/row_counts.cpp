// SPDX-License-Identifier: MIT
#include <infalign/detail/row_counts.hpp>

#include "arrays.hpp"

#include <cmath>
#include <random>
#include <string>
#include <utility>
#include <vector>

using namespace infalign;
using Eigen::Index;

namespace {

/// Compares every pair.
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
  const S inf = infinity<S>, most = std::numeric_limits<S>::max(), least = std::numeric_limits<S>::denorm_min();
  const S special[] = {0, -S{0}, 1, -1, inf, -inf, most, -most, least, -least, missing<S>};
  const auto kind = random() % 40;
  if (kind < 10) return special[kind];
  if (kind == 10 && with_nan) return special[10];
  return static_cast<S>(static_cast<int>(random() % 21)) / 4 - 2;
}

}  // namespace

TEMPLATE_TEST_CASE("Counts equal those of comparing every pair", "", float, double) {
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

TEMPLATE_TEST_CASE("Scored rewards are counted even if their sum is not finite", "", float, double) {
  using S = TestType;
  const S inf = infinity<S>, most = std::numeric_limits<S>::max(), nan = missing<S>;
  const auto scored = [](const array<S>& row, unscored on_unscored) {
    return detail::count_scored<S>({"count", on_unscored}, "reference", {row.data(), row.size()}, 7);
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
    if (K > 1) CHECK(scored(row, unscored::propagate) == K - 1);
  }
  const std::string none = "count: expected at least one reference reward for each prompt, got none at row 7";
  CHECK(error_of([&] { scored(array<S>(0), unscored::error); }) == none);
  CHECK(scored(array<S>::Constant(9, nan), unscored::propagate) == 0);
}

TEMPLATE_TEST_CASE("A NaN is seen at every position of a row of any length", "", float, double) {
  using S = TestType;
  int wrong = 0;
  for (Index K = 1; K <= 260; K += K < 70 ? 1 : 19) {
    array<S> row = array<S>::LinSpaced(K, -1, 1);
    wrong += !detail::has_finite_sum(row.data(), K);
    for (Index k = 0; k < K; ++k) {
      const S old = std::exchange(row[k], missing<S>);
      wrong += detail::has_finite_sum(row.data(), K);
      row[k] = old;
    }
  }
  CHECK(wrong == 0);
}
