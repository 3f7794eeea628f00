// SPDX-License-Identifier: MIT
#include <infalign/calibration/sorted.hpp>

#include "arrays.hpp"

#include <infalign/calibration.hpp>

#include <limits>
#include <random>
#include <vector>

using namespace infalign;
using Catch::Matchers::Message;
using Eigen::Index;

namespace {

/// Rewards with ties, infinities and, if asked for, NaN.
template <real_scalar S>
matrix<S> draw(Index rows, Index columns, unsigned seed, bool with_nan) {
  std::mt19937 random(seed);
  return matrix<S>::NullaryExpr(rows, columns, [&]() -> S {
    const auto kind = random() % 50;
    if (kind == 0 && with_nan) return missing<S>;
    if (kind == 1) return infinity<S>;
    if (kind == 2) return -infinity<S>;
    if (kind == 3) return -S{0};
    return static_cast<S>(static_cast<int>(random() % 401)) / 8 - 25;
  });
}

}  // namespace

TEMPLATE_TEST_CASE("A sorted table has the ranks of the unsorted one", "", float, double) {
  using S = TestType;
  for (const Index K : {1, 2, 40, 127, 128, 129, 256, 1'027, 2'050})
    for (const Index M : {1, 5, 8, 16, 21})
      for (const bool with_nan : {false, true}) {
        CAPTURE(K, M, with_nan);
        const matrix<S> reference = draw<S>(4, K, 1, with_nan), rewards = draw<S>(4, M, 2, with_nan);
        const auto table = sort_rewards(reference);
        CHECK(same(calibrate(table, rewards, mid_rank{}, unscored::propagate),
                   calibrate(reference, rewards, mid_rank{}, unscored::propagate)));
        CHECK(same(calibrate(table, rewards, strict_rank{}, unscored::propagate),
                   calibrate(reference, rewards, strict_rank{}, unscored::propagate)));
        const std::vector<int> prompt(static_cast<std::size_t>(M), 2);
        CHECK(same(calibrate(table, prompt, rewards.row(2), mid_rank{}, unscored::propagate),
                   calibrate(reference, prompt, rewards.row(2), mid_rank{}, unscored::propagate)));
      }
}

TEST_CASE("A row of NaN gives NaN, and a NaN is an error unless it is propagated") {
  matrix<float> reference = draw<float>(3, 200, 1, false);
  const matrix<float> rewards = draw<float>(3, 4, 2, false);
  reference.row(1) = missing<float>;
  reference(2, 7) = missing<float>;
  const auto table = sort_rewards(reference);
  const auto u = calibrate(table, rewards, mid_rank{}, unscored::propagate);
  CHECK(u.row(1).isNaN().all());
  CHECK(!u.row(0).isNaN().any());
  CHECK(same(u, calibrate(reference, rewards, mid_rank{}, unscored::propagate)));
  CHECK_THROWS_MATCHES(calibrate(table, rewards), std::invalid_argument,
                       Message("calibrate: expected reference rewards that are numbers, got NaN at row 1, column 0"));
}

TEST_CASE("Tables that are sorted already are read in place") {
  const matrix<double> sorted{{1, 2, 2, 5}, {-3, 0, 4, 9}};
  const Eigen::Map<const matrix<double>> view(sorted.data(), 2, 4);
  const sorted_rewards of_view(view);
  CHECK(of_view.row(1).data() == sorted.data() + 4);
  const sorted_rewards of_ragged(ragged(std::vector<std::vector<double>>{{1, 2}, {7}}));
  CHECK(of_ragged.row(1)[0] == 7);
  const calibration shape{sorted_rewards{sorted}};
  CHECK(shape(matrix<double>{{2}, {1}})(0, 0) == 0.5);
  CHECK_THROWS_MATCHES(
      (sorted_rewards{matrix<double>{{1, 2, 3}, {1, 3, 2}}}), std::invalid_argument,
      Message("sorted_rewards: expected rows that never decrease, with NaN last, got 2 after 3 at row 1, column 2"));
  CHECK_THROWS_AS((sorted_rewards{matrix<double>{{1, missing<double>, 3}}}), std::invalid_argument);
  CHECK_NOTHROW((sorted_rewards{matrix<double>{{1, missing<double>, missing<double>}}}));
}

TEST_CASE("Rows are sorted with NaN last, whatever the input's layout") {
  const Eigen::ArrayXXd columns = Eigen::ArrayXXd{{3, 1, 2}, {0, missing<double>, -1}};
  const auto table = sort_rewards(columns);
  CHECK((table.row(0) == array<double>{{1, 2, 3}}).all());
  CHECK((table.row(1).head(2) == array<double>{{-1, 0}}).all());
  CHECK(std::isnan(table.row(1)[2]));
  CHECK(sort_rewards(matrix<float>(0, 5)).rows() == 0);
}
