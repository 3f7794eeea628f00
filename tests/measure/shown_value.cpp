// SPDX-License-Identifier: MIT
#include <infalign/measure/shown_value.hpp>

#include "arrays.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <random>
#include <string>
#include <vector>

using namespace infalign;
using Eigen::Index;

namespace {

/// The mean over all sets of n of the value of the best by score, ties at random.
double best_by_subsets(const array<double>& score, const array<double>& value, int n) {
  double sum = 0, sets = 0;
  for (unsigned set = 0; set < 1u << score.size(); ++set) {
    if (std::popcount(set) != n) continue;
    double best = -infinity<double>, total = 0, ties = 0;
    for (Index i = 0; i < score.size(); ++i) {
      if (!(set >> i & 1) || score[i] < best) continue;
      if (score[i] > best) best = score[i], total = ties = 0;
      total += value[i], ties += 1;
    }
    sum += total / ties, sets += 1;
  }
  return sum / sets;
}

}  // namespace

TEST_CASE("The value of what is shown is the mean over all sets that could be drawn, ties at random") {
  const matrix<double> score{{.1, .4, .4, .8, .9, .9}}, value{{1, 2, 5, 3, 0, 4}};
  const double expected[] = {2.5, 2.5, 2.225, 2.0666666666666667, 2, 2};
  for (int n = 1; n <= 6; ++n) {
    CHECK(shown_values(score, value, best_of{n})[0] == near(expected[n - 1], 1e-14));
    CHECK(best_by_subsets(score.row(0), value.row(0), n) == near(expected[n - 1], 1e-14));
    CHECK(shown_values((-score).eval(), value, worst_of{n})[0] == near(expected[n - 1], 1e-14));
  }
  std::mt19937 random(1);
  for (int repeat = 0; repeat < 30; ++repeat) {
    const Index M = 1 + static_cast<Index>(random() % 8);
    const matrix<double> s = table_of<double>(1, M, [&] { return random() % 4; }),
                         v = table_of<double>(1, M, [&] { return static_cast<double>(random()) / 0x1p32; });
    for (int n = 1; n <= M; ++n)
      CHECK(shown_values(s, v, best_of{n})[0] == near(best_by_subsets(s.row(0), v.row(0), n), 1e-13));
  }
}

TEST_CASE("One sample shows the mean, whatever the scores, and a value that is the score's rank is shown in order") {
  const matrix<double> score{{3, 1, 2}}, value{{30, 10, 20}};
  CHECK(shown_values(score, value, plain_sampling{})[0] == near(20, 1e-13));
  CHECK(shown_values(score, value, order_statistic{2, 3})[0] == near(20, 1e-13));
  CHECK(shown_values(score, value, best_of{3})[0] == 30);
  CHECK(shown_values(score, value, worst_of{3})[0] == 10);
  // e^{2·1}, e^{2·2}, e^{2·3} in proportion
  const double q = std::exp(2);
  CHECK(shown_values(score, value, soft_best_of{3, 6})[0] == near((10 + 20 * q + 30 * q * q) / (1 + q + q * q), 1e-12));
}

TEST_CASE("The mean over prompts has the error of its prompts, and the curve is the value for each n") {
  const matrix<float> score{{1, 2, 3}, {5, 5, 1}, {0, 1, -1}};
  const matrix<double> value{{10, 20, 60}, {1, 3, 8}, {7, 7, 7}};
  const auto each = shown_values(score, value, best_of{2});
  CHECK(distance(each, array<double>{{(2 * 60 + 20) / 3., 2, 7}}) < 1e-13);
  const auto mean = shown_value(score, value, best_of{2}), expected = mean_over_prompts(each);
  CHECK(mean.mean == expected.mean);
  CHECK(mean.standard_error == expected.standard_error);
  const auto curve = shown_value_curve<best_of>(score, value);
  REQUIRE(curve.size() == 3);
  for (int n = 1; n <= 3; ++n)
    CHECK(curve[static_cast<std::size_t>(n - 1)].mean == shown_value(score, value, best_of{n}).mean);
  CHECK(shown_value_curve<worst_of>(ragged(std::vector<std::vector<double>>{{1, 2}, {3}}),
                                    ragged(std::vector<std::vector<double>>{{1, 2}, {3}}))
            .size() == 1);
}

TEST_CASE("A response without a score or a value is an error, or is left out") {
  const matrix<double> score{{1, NaN, 2}, {NaN, 4, 3}, {NaN, NaN, 1}}, value{{1, 2, 3}, {4, 5, 6}, {7, 8, NaN}};
  const auto left = shown_values(score, value, best_of{2}, unscored::propagate);
  CHECK(left[0] == 3);
  CHECK(left[1] == 5);
  CHECK(std::isnan(left[2]));
  CHECK(shown_value(score, value, best_of{2}, unscored::propagate).prompts == 2);
  CHECK(shown_value_curve<best_of>(score, value, unscored::propagate).size() == 2);
  const auto error = [&](const auto& s, const auto& v, int n = 1) {
    return error_of([&] { shown_values(s, v, best_of{n}); });
  };
  CHECK(error(score, value) == "shown_values: expected scores that are numbers, got NaN at row 0, column 1");
  const matrix<double> two{{1, 2}};
  CHECK(error(two, matrix<double>{{1, NaN}}) ==
        "shown_values: expected values that are numbers, got NaN at row 0, column 1");
  CHECK(error(two, matrix<double>{{1, infinity<double>}}) ==
        "shown_values: expected finite values, got inf at row 0, column 1");
  CHECK(error(matrix<double>{{1, infinity<double>}}, two) == "no error");
  CHECK(error(two, matrix<double>{{1, 2, 3}}) == "shown_values: expected 2 values, one for each score, got 3 at row 0");
  CHECK(error(two, value) == "shown_values: expected 1 rows of values, one for each row of scores, got 3");
  CHECK(error(two, two, 3) ==
        "shown_values: expected at least 3 scored responses to each prompt for this procedure, got 2 at row 0");
  CHECK(error(two, two, 0) == "best_of: expected n of at least 1, got 0");
  CHECK(error_of([] { shown_value_curve<best_of>(matrix<double>(0, 3), matrix<double>(0, 3)); }) ==
        "shown_value_curve: expected at least one prompt, got none");
}
