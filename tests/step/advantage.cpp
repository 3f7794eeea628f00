// SPDX-License-Identifier: MIT
#include <infalign/step/advantage.hpp>
#include <infalign/step/max_at_n.hpp>

#include "arrays.hpp"

#include <algorithm>
#include <cmath>
#include <random>
#include <span>
#include <string>
#include <vector>

using namespace infalign;

static_assert(advantage_estimator<no_baseline> && advantage_estimator<batch_mean> && advantage_estimator<group_mean> &&
              advantage_estimator<leave_one_out> && advantage_estimator<group_standardized>);
using Eigen::Index;

namespace {

/// All estimators for groups of at least `largest` responses, one after another.
template <class F>
void for_each_group_estimator(int largest, F f) {
  f(group_mean{});
  f(leave_one_out{});
  f(group_standardized{});
  f(group_standardized{.epsilon = 0});
  for (int n = 2; n <= largest; ++n) {
    f(max_at_n{n});
    f(min_at_n{n});
    f(centered_max_at_n{n});
  }
  f(centered_max_at_n{1});
}

/// A user's own estimator, with its own smallest group and check.
struct less_the_best {
  int need;
  int smallest_group() const { return need; }
  void check() const { detail::check_size("less_the_best", "as its need", 3, need); }
  template <vector_expression R>
  auto operator()(const R& r) const {
    return r - r.maxCoeff();
  }
};

}  // namespace

TEMPLATE_TEST_CASE("Each estimator has the values of its formula", "", float, double) {
  using S = TestType;
  const matrix<S> rewards{{1, 2, 6}, {3, 0, 0}};
  const auto check = [&](const auto& estimator, const matrix<double>& expected) {
    const matrix<S> a = advantage(rewards, estimator);
    CHECK(distance(a.template cast<double>(), expected) < 8 * epsilon<S>);
  };
  check(no_baseline{}, {{1, 2, 6}, {3, 0, 0}});
  check(batch_mean{}, {{-1, 0, 4}, {1, -2, -2}});
  check(group_mean{}, {{-2, -1, 3}, {2, -1, -1}});
  check(leave_one_out{}, {{-3, -1.5, 4.5}, {3, -1.5, -1.5}});  // 1 − (2 + 6)/2 ..
  const double s = std::sqrt((4. + 1 + 9) / 2), z = std::sqrt((4. + 1 + 1) / 2);
  check(group_standardized{.epsilon = 0}, {{-2 / s, -1 / s, 3 / s}, {2 / z, -1 / z, -1 / z}});
  check(group_standardized{.epsilon = 0.5},
        {{-2 / (s + 0.5), -1 / (s + 0.5), 3 / (s + 0.5)}, {2 / (z + 0.5), -1 / (z + 0.5), -1 / (z + 0.5)}});
  check(group_standardized{},
        {{-2 / (s + 1e-4), -1 / (s + 1e-4), 3 / (s + 1e-4)}, {2 / (z + 1e-4), -1 / (z + 1e-4), -1 / (z + 1e-4)}});
  // Pairs of 1 2 6: the maximum less that without i, (6 − 1) + (6 − 2) for the 6 and 2 − 1 for the 2. M/C(M, 2) = 1.
  check(max_at_n{2}, {{0, 1, 9}, {6, 0, 0}});
  check(max_at_n{3}, {{0, 0, 12}, {9, 0, 0}});  // M/C(M, 3) = 3
  check(max_at_n{1}, {{1, 2, 6}, {3, 0, 0}});
  check(min_at_n{2}, {{-6, -4, 0}, {0, -3, -3}});
  check(min_at_n{3}, {{-3, 0, 0}, {0, 0, 0}});
  check(min_at_n{1}, {{1, 2, 6}, {3, 0, 0}});
  check(centered_max_at_n{2}, {{-4. / 3, -4. / 3, 8. / 3}, {2, -1, -1}});  // 8 8 12 and 6 3 3 less their means
  check(centered_max_at_n{3}, {{0, 0, 0}, {0, 0, 0}});
  check(centered_max_at_n{1}, {{-2, -1, 3}, {2, -1, -1}});
}

TEMPLATE_TEST_CASE("Equal rewards have advantage exactly 0", "", float, double) {
  using S = TestType;
  for (S value : {S(0.1), S(1) / 3, S(-7.3), S(1e30), S(-1e-30), std::numeric_limits<S>::max()})
    for (Index M = 2; M <= 11; ++M)
      for_each_group_estimator(static_cast<int>(M), [&](const auto& estimator) {
        CHECK(same(advantage(matrix<S>::Constant(2, M, value), estimator), matrix<S>::Zero(2, M)));
      });
}

TEMPLATE_TEST_CASE("Rewards far from 0 keep their differences", "", float, double) {
  using S = TestType;
  const S far = S{1} / epsilon<S>;
  const matrix<S> rewards{{far, far + 1, far + 5}};
  CHECK(same(advantage(rewards, group_mean{}), matrix<S>{{-2, -1, 3}}));
  CHECK(same(advantage(rewards, leave_one_out{}), matrix<S>{{-3, -1.5, 4.5}}));
  CHECK(same(advantage(rewards, max_at_n{2}), matrix<S>{{0, 1, 9}}));
  CHECK(same(advantage(rewards, group_standardized{}), advantage(matrix<S>{{0, 1, 5}}, group_standardized{})));
}

TEMPLATE_TEST_CASE("Standardised rewards do not depend on their scale", "", float, double) {
  using S = TestType;
  const bool single = std::same_as<S, float>;
  const matrix<S> expected = advantage(matrix<S>{{1, 2, 6}}, group_standardized{.epsilon = 0});
  for (double scale : {single ? 1e-30 : 1e-300, 1e-20, 1e20, single ? 5e37 : 1e200, single ? -5e37 : 2e307}) {
    CAPTURE(scale);
    const matrix<S> rewards = matrix<S>{{1, 2, 6}} * static_cast<S>(scale);
    CHECK(distance(advantage(rewards, group_standardized{.epsilon = 0}), scale > 0 ? expected : matrix<S>(-expected)) <
          8 * static_cast<double>(epsilon<S>));
  }
}

TEMPLATE_TEST_CASE("Advantages that are not finite are rejected, and so are too few or too many", "", float, double) {
  using S = TestType;
  const S most = std::numeric_limits<S>::max(), none = missing<S>;
  const auto first_only = [](const auto& r) {
    using T = typename std::remove_cvref_t<decltype(r)>::Scalar;
    return r * (r[0] > 0 ? T{1} : missing<T>);
  };
  const auto error = [](const matrix<S>& r, const auto& estimator) {
    return error_of([&] { advantage(r, estimator, unscored::propagate); });
  };
  const matrix<S> far{{none, most, -most}};
  CHECK(error(far, leave_one_out{}) == "advantage: expected finite advantages, got inf at row 0, column 1");
  CHECK(error(far, max_at_n{2}) == "advantage: expected finite advantages, got inf at row 0, column 1");
  CHECK(error(matrix<S>{{1, 2}, {3, 4}}, [](const auto& r) { return 1 / (r - r[0]).square(); }) ==
        "advantage: expected finite advantages, got inf at row 0, column 0");
  CHECK(error(matrix<S>{{1, 2}, {0, 4}}, first_only) ==
        "advantage: expected finite advantages, got NaN at row 1, column 0");
  CHECK(error_of([&] {
          advantage(std::vector<int>{1, 2, 1}, array<S>{{most, 3, -most}}, leave_one_out{});
        }) == "advantage: expected finite advantages, got inf at index 0");
  const auto sized = [](Index more) {
    return [more](const auto& r) {
      return array<typename std::remove_cvref_t<decltype(r)>::Scalar>::Ones(r.size() + more).eval();
    };
  };
  CHECK(error(matrix<S>{{none, 1, 2}}, sized(0)) == "no error");
  for (Index more : {-1, 1})
    CHECK(error(matrix<S>{{none, 1, 2}}, sized(more)) ==
          "advantage: expected 2 advantages from the estimator, one for each reward of its group, got " +
              std::to_string(2 + more));
  // Advantages may be a row, or of Eigen's matrix kind.
  const matrix<S> rewards{{1, 2, 6}}, negated = -rewards;
  CHECK(same(advantage(rewards, [](const auto& r) { return -r.transpose(); }), negated));
  CHECK(same(advantage(rewards, [](const auto& r) { return -r.matrix(); }), negated));
}

TEMPLATE_TEST_CASE("An unscored response has advantage 0, and does not affect others", "", float, double) {
  using S = TestType;
  const S none = missing<S>;
  const matrix<S> rewards{{1, none, 2, 6}, {none, none, none, 5}, {none, none, none, none}};
  const matrix<S> alone{{1, 2, 6}};
  const auto check = [&](const auto& estimator) {
    const matrix<S> a = advantage(rewards, estimator, unscored::propagate), without = advantage(alone, estimator);
    CHECK(same(a, matrix<S>{{without(0, 0), 0, without(0, 1), without(0, 2)}, {0, 0, 0, 0}, {0, 0, 0, 0}}));
    CHECK(same(advantage(std::vector<int>{4, 4, 9, 4, 9, 4}, array<S>{{1, none, 5, 2, none, 6}}, estimator,
                         unscored::propagate),
               array<S>{{a(0, 0), 0, 0, a(0, 2), 0, a(0, 3)}}));
  };
  for_each_group_estimator(3, check);
  CHECK(same(advantage(rewards, max_at_n{4}, unscored::propagate), matrix<S>::Zero(3, 4)));
  CHECK(same(advantage(rewards, no_baseline{}, unscored::propagate),
             matrix<S>{{1, 0, 2, 6}, {0, 0, 0, 5}, {0, 0, 0, 0}}));
  // The mean of 1 2 6 5.
  CHECK(same(advantage(rewards, batch_mean{}, unscored::propagate),
             matrix<S>{{-2.5, 0, -1.5, 2.5}, {0, 0, 0, 1.5}, {0, 0, 0, 0}}));
  CHECK(same(advantage(matrix<S>::Constant(2, 2, none), batch_mean{}, unscored::propagate), matrix<S>::Zero(2, 2)));
}

TEMPLATE_TEST_CASE("In a flat batch a group too small for the estimator has advantage 0", "", float, double) {
  using S = TestType;
  const std::vector<int> prompt{3, -1, 3, 8, 8, 3};
  const array<S> rewards{{1, 7, 2, 3, 5, 6}};
  CHECK(same(advantage(prompt, rewards, leave_one_out{}), array<S>{{-3, 0, -1.5, -2, 2, 4.5}}));
  CHECK(same(advantage(prompt, rewards, max_at_n{3}), array<S>{{0, 0, 0, 0, 0, 12}}));
  CHECK(same(advantage(prompt, rewards, max_at_n{1}), rewards));
  CHECK(same(advantage(prompt, rewards, batch_mean{}), rewards - 4));
  CHECK(advantage(std::vector<int>{}, array<S>(), group_mean{}).size() == 0);
}

TEMPLATE_TEST_CASE("A flat batch and a matrix agree bit for bit, in any order and storage", "", float, double) {
  using S = TestType;
  std::mt19937 random(2);
  const Index P = 9, M = 5;
  const matrix<S> rewards = matrix<S>::NullaryExpr(P, M, [&] { return static_cast<S>(random() % 97) / 7; });
  std::vector<Index> order(P * M), prompt;
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = static_cast<Index>(i);
  std::sort(order.begin(), order.end(), [](Index a, Index b) { return a % 5 * 100 + a / 5 < b % 5 * 100 + b / 5; });
  array<S> flat(P * M);
  for (Index i = 0; i < P * M; ++i) {
    prompt.push_back(-7 * (order[static_cast<std::size_t>(i)] / M));
    flat[i] = rewards.data()[order[static_cast<std::size_t>(i)]];
  }
  const Eigen::Array<S, Eigen::Dynamic, Eigen::Dynamic> by_columns = rewards;
  for_each_group_estimator(static_cast<int>(M), [&](const auto& estimator) {
    const matrix<S> a = advantage(rewards, estimator);
    const array<S> b = advantage(prompt, flat, estimator);
    bool equal = true;
    for (Index i = 0; i < P * M; ++i) equal = equal && b[i] == a.data()[order[static_cast<std::size_t>(i)]];
    CHECK(equal);
    CHECK(same(advantage(by_columns.matrix(), estimator), a));
    CHECK(same(advantage(rewards.row(3), estimator), a.row(3)));
    CHECK(same(advantage(prompt, flat.matrix().transpose(), estimator), b));
  });
}

TEMPLATE_TEST_CASE("Estimators marked linear are linear", "", float, double) {
  using S = TestType;
  const matrix<S> a{{1, 2, 6, 0}, {3, 0, -4, 1}}, b{{-2, 8, 4, 2}, {0, 0, 4, -8}};  // exact in all that follows
  const auto is_linear = [&](const auto& estimator) {
    return same(advantage(a + 2 * b, estimator), advantage(a, estimator) + 2 * advantage(b, estimator));
  };
  STATIC_REQUIRE(no_baseline::linear && batch_mean::linear && group_mean::linear && leave_one_out::linear);
  CHECK(is_linear(no_baseline{}));
  CHECK(is_linear(batch_mean{}));
  CHECK(is_linear(group_mean{}));
  CHECK(distance(advantage(a + b, leave_one_out{}), advantage(a, leave_one_out{}) + advantage(b, leave_one_out{})) <
        16 * static_cast<double>(epsilon<S>));
  STATIC_REQUIRE(!detail::is_linear<group_standardized> && !detail::is_linear<max_at_n> &&
                 !detail::is_linear<min_at_n>);
  CHECK(!is_linear(group_standardized{}));
  CHECK(!is_linear(max_at_n{2}));
  CHECK(!is_linear(min_at_n{2}));
}

TEMPLATE_TEST_CASE("A user's estimator is any function of a group", "", float, double) {
  using S = TestType;
  const matrix<S> rewards{{1, 2, 6}};
  const auto less_the_first = [](const auto& r) { return r - r[0]; };
  CHECK(same(advantage(rewards, less_the_first), matrix<S>{{0, 1, 5}}));
  CHECK(same(advantage(matrix<S>{{4}}, less_the_first), matrix<S>{{0}}));
  CHECK(same(advantage(rewards, less_the_best{3}), matrix<S>{{-5, -4, 0}}));
  CHECK(same(advantage(std::vector<int>{0, 0, 1, 1, 1}, array<S>{{1, 2, 3, 4, 5}}, less_the_best{3}),
             array<S>{{0, 0, -2, -1, 0}}));
  CHECK(error_of([&] { advantage(rewards, less_the_best{2}); }) == "less_the_best: expected 3 as its need, got 2");
  CHECK(error_of([&] {
          advantage(matrix<S>{{1, 2}}, less_the_best{3});
        }) ==
        "advantage: expected at least 3 responses to each prompt for this estimator, got 2 (columns of the rewards)");
  STATIC_REQUIRE(advantage_estimator<less_the_best> && advantage_estimator<batch_mean>);
  const auto total = [](const auto& r) { return r.sum(); };
  STATIC_REQUIRE(!advantage_estimator<int> && !advantage_estimator<decltype(total)>);
}

TEMPLATE_TEST_CASE("Rewards and parameters that do not fit are rejected", "", float, double) {
  using S = TestType;
  const auto error = [](const matrix<S>& r, const auto& estimator) {
    return error_of([&] { advantage(r, estimator); });
  };
  const matrix<S> rewards{{1, 2, 6}};
  const std::string columns = " responses to each prompt for this estimator, got ";
  CHECK(error(matrix<S>{{1}, {2}}, leave_one_out{}) ==
        "advantage: expected at least 2" + columns + "1 (columns of the rewards)");
  CHECK(error(matrix<S>{{1}}, group_mean{}) != "no error");
  CHECK(error(matrix<S>{{1}}, group_standardized{}) != "no error");
  CHECK(error(matrix<S>{{1}}, centered_max_at_n{1}) != "no error");
  CHECK(error(matrix<S>{{1}}, no_baseline{}) == "no error");
  CHECK(error(rewards, max_at_n{4}) == "advantage: expected at least 4" + columns + "3 (columns of the rewards)");
  CHECK(error(rewards, min_at_n{4}) == "advantage: expected at least 4" + columns + "3 (columns of the rewards)");
  CHECK(error(rewards, max_at_n{0}) == "max_at_n: expected n of at least 1, got 0");
  CHECK(error(rewards, min_at_n{-1}) == "min_at_n: expected n of at least 1, got -1");
  CHECK(error(rewards, centered_max_at_n{0}) == "centered_max_at_n: expected n of at least 1, got 0");
  CHECK(error(rewards, group_standardized{-1}) == "group_standardized: expected epsilon finite and at least 0, got -1");
  CHECK(error(rewards, group_standardized{INFINITY}) ==
        "group_standardized: expected epsilon finite and at least 0, got inf");
  CHECK(error({{1, 2}, {missing<S>, 1}}, group_mean{}) ==
        "advantage: expected rewards that are numbers, got NaN at row 1, column 0");
  CHECK(error({{1, 2}, {1, -INFINITY}}, group_mean{}) ==
        "advantage: expected finite rewards, got -inf at row 1, column 1");
  const std::vector<int> prompt{0, 0};
  const auto flat_error = [&](const array<S>& r, unscored on_unscored) {
    return error_of([&] { advantage(prompt, r, leave_one_out{}, on_unscored); });
  };
  CHECK(flat_error({{1, 2, 3}}, unscored::error) == "advantage: expected 3 prompt indices, one for each reward, got 2");
  CHECK(flat_error({{1, missing<S>}}, unscored::error) ==
        "advantage: expected rewards that are numbers, got NaN at index 1");
  CHECK(flat_error({{missing<S>, INFINITY}}, unscored::propagate) ==
        "advantage: expected finite rewards, got inf at index 1");
}

TEMPLATE_TEST_CASE("A row is the responses to one prompt, and a column one response to each", "", float, double) {
  using S = TestType;
  const matrix<S> rewards{{1, 2, 6}, {3, 0, 0}};
  const auto row = advantage(rewards.row(0), group_mean{});
  const auto column = advantage(rewards.col(0), batch_mean{});
  STATIC_REQUIRE(std::is_same_v<decltype(row), const matrix<S>>);
  STATIC_REQUIRE(std::is_same_v<decltype(column), const array<S>>);
  CHECK(same(row, matrix<S>{{-2, -1, 3}}));
  CHECK(same(column, array<S>{{-1, 1}}));
}

TEMPLATE_TEST_CASE("A user's estimator may use the mean of the batch, or write to its result", "", float, double) {
  using S = TestType;
  const matrix<S> rewards{{1, 2, 6}, {3, 0, missing<S>}};
  const auto twice_above_mean = [](const auto& r, double mean) {
    using T = typename std::remove_cvref_t<decltype(r)>::Scalar;
    return 2 * (r - static_cast<T>(mean));
  };
  const auto in_place = [](const auto& r, auto&& result, workspace*) { result = -r; };
  STATIC_REQUIRE(advantage_estimator<decltype(twice_above_mean)> && advantage_estimator<decltype(in_place)>);
  CHECK(distance(advantage(rewards, twice_above_mean, unscored::propagate),
                 matrix<double>{{-2.8, -0.8, 7.2}, {1.2, -4.8, 0}}) < 8 * epsilon<S>);
  CHECK(same(advantage(rewards, in_place, unscored::propagate), matrix<S>{{-1, -2, -6}, {-3, 0, 0}}));
}

TEMPLATE_TEST_CASE(
    "Advantages are written to a block of rows, with a workspace or without, and nothing beside it changes", "", float,
    double) {
  using S = TestType;
  const matrix<S> rewards{{1, 2, 6, 0}, {3, 0, -4, 1}};
  const std::vector<int> prompt{3, -1, 3, 8, 8, 3};
  const array<S> flat{{1, 7, 2, 3, 5, 6}};
  workspace space;
  const auto check = [&](const auto& estimator) {
    const matrix<S> expected = advantage(rewards, estimator);
    matrix<S> whole(2, 4);
    advantage_into(whole, rewards, estimator);
    CHECK(same(whole, expected));
    whole = rewards;
    advantage_into(whole, space, whole, estimator);  // in place
    CHECK(same(whole, expected));
    S memory[8];
    advantage_into(Eigen::Map<matrix<S>>(memory, 2, 4), rewards.matrix(), estimator);
    CHECK(same(Eigen::Map<matrix<S>>(memory, 2, 4), expected));

    surrounded<S> buffer(2, 4), row(1, 6);
    advantage_into(buffer.block(), rewards, estimator);
    CHECK(same(buffer.block(), expected));
    buffer.block() = rewards;
    advantage_into(buffer.block(), space, buffer.block(), estimator, unscored::propagate);
    CHECK(same(buffer.block(), expected));
    CHECK(buffer.rest_unchanged());
    advantage_into(row.block().row(0), space, prompt, flat, estimator);
    CHECK(same(row.block().row(0).transpose(), advantage(prompt, flat, estimator)));
    CHECK(row.rest_unchanged());
    CHECK(error_of([&] { advantage_into(whole, rewards.leftCols(3), estimator); }) ==
          "advantage: expected a result of 2 x 3, got 2 x 4");
    array<S> five(5);
    CHECK(error_of([&] { advantage_into(five, space, prompt, flat, estimator); }) ==
          "advantage: expected 6 numbers in the result, one for each reward, got 5");
  };
  for_each_of(check, leave_one_out{}, batch_mean{}, max_at_n{2});
  matrix<S> result(2, 4);
  CHECK(error_of([&] { advantage_into(result, rewards, max_at_n{0}); }) == "max_at_n: expected n of at least 1, got 0");
}

TEST_CASE("If no prompt has two responses, an estimator that compares them has nothing to do, and says so") {
  const array<double> flat{{1, 2, 3}};
  CHECK(error_of([&] {
          advantage(std::vector<int>{0, 1, 2}, flat, leave_one_out{});
        }) == "advantage: expected at least 2 responses to some prompt for this estimator, got at most 1");
  CHECK(error_of([&] {
          advantage(std::vector<int>{0, 1, 0}, flat, max_at_n{.n = 5});
        }) == "advantage: expected at least 5 responses to some prompt for this estimator, got at most 2");
  CHECK(advantage(std::vector<int>{0, 1, 0}, flat, leave_one_out{})[1] == 0);  // a lone response among others
  CHECK(advantage(std::vector<int>{0, 1, 2}, flat, no_baseline{})[2] == 3);
  CHECK(advantage(std::vector<int>{}, array<double>(0), leave_one_out{}).size() == 0);
}

// By hand: the batch 1, 3, 2, 6 has mean 3 and standard deviation sqrt((4 + 0 + 1 + 9)/3).
TEST_CASE("batch_standardized divides the distance from the group's mean by the deviation of the batch") {
  const matrix<double> rewards{{1, 3}, {2, 6}};
  const double s = std::sqrt(14.0 / 3);
  const auto a = advantage(rewards, batch_standardized{.epsilon = 0.1});
  CHECK(distance(a, matrix<double>(matrix<double>{{-1, 1}, {-2, 2}} / (s + 0.1))) < 1e-14);
  const matrix<float> shifted = (rewards + 1e6).cast<float>();  // no digits are lost to a large mean
  CHECK(distance(advantage(shifted, batch_standardized{.epsilon = 0.1}), a) < 1e-6);

  CHECK((advantage(matrix<double>{{5, 5}, {5, 5}}, batch_standardized{}) == 0).all());
  CHECK((advantage(matrix<double>{{5, 5}, {7, 7}}, batch_standardized{}) == 0).all());
  const auto one = advantage(matrix<double>{{1, NaN}, {2, 6}}, batch_standardized{}, unscored::propagate);
  CHECK((one.row(0) == 0).all());
  CHECK(one(1, 1) == near(2 / (std::sqrt(((1 - 3.) * (1 - 3.) + 1 + 9) / 2) + 1e-4), 1e-14));
  CHECK(error_of([&] { advantage(rewards, batch_standardized{.epsilon = -1}); }) ==
        "batch_standardized: expected epsilon finite and at least 0, got -1");
  CHECK(error_of([&] {
          advantage(matrix<double>{{1}, {2}}, batch_standardized{});
        }) ==
        "advantage: expected at least 2 responses to each prompt for this estimator, got 1 (columns of the rewards)");
}

TEST_CASE("An estimator may ask for the mean of the batch, or for its mean and standard deviation") {
  const matrix<double> rewards{{1, 3}, {2, 6}};
  const auto of_mean = [](const auto& r, double mean) { return (r - mean).eval(); };
  CHECK(same(advantage(rewards, of_mean), matrix<double>{{-2, 0}, {-1, 3}}));
  const auto of_moments = [](const auto& r, const reward_moments& all) {
    return ((r - all) / all.standard_deviation).eval();
  };
  CHECK(distance(advantage(rewards, of_moments),
                 matrix<double>(matrix<double>{{-2, 0}, {-1, 3}} / std::sqrt(14.0 / 3))) < 1e-14);
}

TEMPLATE_TEST_CASE("The rewards of a flat batch may be a std::vector or a std::span", "", float, double) {
  using S = TestType;
  const std::vector<int> prompt{0, 1, 0, 1};
  const std::vector<S> rewards{3, 10, 1, 4};
  const array<S> expected{{2, 6, -2, -6}};
  CHECK(same(advantage(prompt, rewards, leave_one_out{}), expected));
  array<S> result(4);
  workspace space;
  advantage_into(result, space, prompt, std::span<const S>(rewards), leave_one_out{});
  CHECK(same(result, expected));
}
