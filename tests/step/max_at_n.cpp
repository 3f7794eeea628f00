// SPDX-License-Identifier: MIT
#include <infalign/step/max_at_n.hpp>

#include "arrays.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <random>
#include <string>

using namespace infalign;

static_assert(advantage_estimator<max_at_n> && advantage_estimator<centered_max_at_n> && advantage_estimator<min_at_n>);
using Eigen::Index;

// A_i = M/C(M, n)·Σ over sets S of n with i of (max over S − max over S∖i), max ∅ = 0.
TEMPLATE_TEST_CASE("Credit for the best and the worst of n is the sum over subsets", "", float, double) {
  using S = TestType;
  std::mt19937 random(1);
  for (Index M = 1; M <= 7; ++M)
    for (int n = 1; n <= M; ++n)
      for (int repeat = 0; repeat < 4; ++repeat) {
        const matrix<S> r = matrix<S>::NullaryExpr(1, M, [&] { return static_cast<S>(random() % 6) / 4 - 1; });
        matrix<double> best = matrix<double>::Zero(1, M), worst = best, with = best;
        double sets = 0;
        for (unsigned set = 0; set < 1u << M; ++set) {
          if (std::popcount(set) != n) continue;
          ++sets;
          const auto extreme = [&](unsigned of, double sign) {
            double most = of == 0 ? 0 : -INFINITY;
            for (Index i = 0; i < M; ++i)
              if (of >> i & 1) most = std::max(most, sign * static_cast<double>(r(0, i)));
            return sign * most;
          };
          for (Index i = 0; i < M; ++i)
            if (set >> i & 1) {
              best(0, i) += extreme(set, 1) - extreme(set & ~(1u << i), 1);
              worst(0, i) += extreme(set, -1) - extreme(set & ~(1u << i), -1);
              with(0, i) += extreme(set, 1);
            }
        }
        const double scale = static_cast<double>(M) / sets, tolerance = 40 * epsilon<S>;
        const auto found = [&](const auto& estimator) {
          return matrix<double>(advantage(r, estimator).template cast<double>());
        };
        CHECK(distance(found(max_at_n{n}), scale * best) < tolerance);
        CHECK(distance(found(min_at_n{n}), scale * worst) < tolerance);
        if (M > 1) CHECK(distance(found(centered_max_at_n{n}), scale * (with - with.mean())) < tolerance);
      }
}

TEST_CASE("Credit for the best of 2 on binary rewards") {
  const matrix<double> rewards{{1, 0, 0, 1}};
  CHECK(distance(advantage(rewards, max_at_n{2}), matrix<double>{{4. / 3, 0, 0, 4. / 3}}) < 1e-15);
  CHECK(distance(advantage(rewards, min_at_n{2}), matrix<double>{{0, -4. / 3, -4. / 3, 0}}) < 1e-15);
  CHECK(distance(advantage(rewards, centered_max_at_n{2}) / 4, matrix<double>{{1. / 12, -1. / 12, -1. / 12, 1. / 12}}) <
        1e-15);
}

TEST_CASE("max_at_n writes to its result if it is called by itself") {
  const array<double> rewards{{1, 2, 6}};
  const Eigen::Map<const array<double>> group(rewards.data(), 3);
  workspace space;
  for (workspace* memory : {static_cast<workspace*>(nullptr), &space, &space}) {
    array<double> best(3), worst(3), centered(3);
    max_at_n{2}(group, best, memory);
    min_at_n{2}(group, worst, memory);
    centered_max_at_n{2}(group, centered, memory);
    CHECK(same(best, array<double>{{0, 1, 9}}));
    CHECK(same(worst, array<double>{{-6, -4, 0}}));
    CHECK(distance(centered, array<double>{{-4. / 3, -4. / 3, 8. / 3}}) < 1e-15);
  }
}

TEST_CASE("The smallest group is n, and at least 2 if the mean of the group is subtracted") {
  CHECK(max_at_n{3}.smallest_group() == 3);
  CHECK(min_at_n{1}.smallest_group() == 1);
  CHECK(centered_max_at_n{1}.smallest_group() == 2);
  CHECK(centered_max_at_n{4}.smallest_group() == 4);
}

TEST_CASE("An n below 1 is rejected") {
  for (const int n : {0, -3}) {
    const auto got = ": expected n of at least 1, got " + std::to_string(n);
    CHECK(error_of([&] { max_at_n{n}.check(); }) == "max_at_n" + got);
    CHECK(error_of([&] { min_at_n{n}.check(); }) == "min_at_n" + got);
    CHECK(error_of([&] { centered_max_at_n{n}.check(); }) == "centered_max_at_n" + got);
  }
}
