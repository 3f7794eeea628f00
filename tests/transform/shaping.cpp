// SPDX-License-Identifier: MIT
#include <infalign/calibration/calibrate.hpp>
#include <infalign/transform/shaping.hpp>
#include <infalign/transform/transforms.hpp>

#include "arrays.hpp"

#include <cmath>
#include <random>
#include <span>
#include <string>
#include <vector>

using namespace infalign;
using Eigen::Index;

TEMPLATE_TEST_CASE("Composed stages equal the stages one after another, bit for bit", "", float, double) {
  using S = TestType;
  std::mt19937 random(6);
  const auto draw = [&] { return static_cast<S>(random() % 20); };
  const matrix<S> reference = matrix<S>::NullaryExpr(30, 13, draw), rewards = matrix<S>::NullaryExpr(30, 7, draw);
  std::vector<int> prompt(100);
  for (int& p : prompt) p = static_cast<int>(random() % 30);
  const array<S> flat = array<S>::NullaryExpr(100, draw);

  const calibration ranks{reference, add_one_rank{}};
  const normalized_exponential first{.t = 3};
  const tabulated second{.u = array<double>{{0, 0.3, 1}}, .value = array<double>{{0, 0.6, 1}}};
  const auto third = [](S u) { return 5 - 3 * u * u; };
  const auto by_hand = [&](const auto& u) { return transform(transform(transform(u, first), second), third); };
  const auto check = [&](const auto& shape) {
    STATIC_REQUIRE(std::is_same_v<decltype(shape(rewards)), matrix<S>>);
    STATIC_REQUIRE(std::is_same_v<decltype(shape(prompt, flat)), array<S>>);
    CHECK(same(shape(rewards), by_hand(ranks(rewards))));
    CHECK(same(shape(prompt, flat), by_hand(ranks(prompt, flat))));
  };
  check(ranks | first | second | third);
  check(ranks | (first | second) | third);
  check(ranks | (first | (second | third)));
  check(ranks | ((first | second) | third));
  check((ranks | first) | (second | third));
  CHECK(same((ranks | identity{})(rewards), ranks(rewards)));
  CHECK(same(transform(ranks(rewards), first | second | third), by_hand(ranks(rewards))));
  CHECK((third | first)(S(1.25)) == near(std::expm1(3 * (5 - 3 * 1.5625)) / std::expm1(3.), 20 * epsilon<S>));
  CHECK(same((ranks | logarithm{})(rewards), transform(ranks(rewards), logarithm{})));
}

TEMPLATE_TEST_CASE(
    "Compositions treat NaN as their calibration does, and report the position of a value that is not finite", "",
    float, double) {
  using S = TestType;
  const S none = missing<S>;
  const matrix<S> reference{{1, 2, 3, 4}, {1, 2, 3, 4}};
  const auto doubled = [](S u) { return 2 * u; };
  const auto propagates = calibration{reference, mid_rank{}, unscored::propagate} | power{2} | doubled;
  CHECK(same(propagates(matrix<S>{{2.5, none}, {none, 9}}), matrix<S>{{0.5, none}, {none, 2}}));
  CHECK(same(propagates(std::vector<int>{1, 0}, array<S>{{none, 9}}), array<S>{{none, 2}}));

  const auto strict = calibration{reference} | logarithm{};
  CHECK(error_of([&] {
          strict(matrix<S>{{1.5, 1.5}, {1.5, 0.5}});
        }) == "transform: expected a finite value of the transform, got -inf for 0 at row 1, column 1");
  CHECK(error_of([&] {
          strict(std::vector<int>{1, 1}, array<S>{{0.5, 2}});
        }) == "transform: expected a finite value of the transform, got -inf for 0 at index 0");
  CHECK(error_of([&] {
          strict(matrix<S>{{1, none}, {1, 1}});
        }) == "calibrate: expected rewards that are numbers, got NaN at row 0, column 1");
}

TEMPLATE_TEST_CASE("A composition checks its parameters when it is made, also those of a user's transform", "", float,
                   double) {
  using S = TestType;
  struct halved {
    double by = 0;
    void check(S) const {
      if (by != 2) throw std::invalid_argument("halved: by 2 only");
    }
    S operator()(S u) const { return u / static_cast<S>(by); }
  };
  const calibration ranks{matrix<S>{{1, 2}}};
  const std::string finite = "exponential: expected t finite and not 0, got 0";
  CHECK(error_of([&] { ranks | exponential{0}; }) == finite);
  CHECK(error_of([&] { ranks | identity{} | exponential{0}; }) == finite);
  CHECK(error_of([&] { ranks | (exponential{0} | identity{}); }) == finite);
  CHECK(error_of([&] { ranks | exponential{200}; }).starts_with("exponential") == std::same_as<S, float>);
  CHECK(error_of([&] { ranks | halved{3}; }) == "halved: by 2 only");
  const array<S> u{{S(0.5)}};
  CHECK(error_of([&] { transform(u, halved{3}); }) == "halved: by 2 only");
  CHECK(error_of([&] { transform(u, identity{} | halved{3}); }) == "halved: by 2 only");
  CHECK(same((ranks | halved{2} | halved{2})(matrix<S>{{1.5, 3}}), matrix<S>{{0.125, 0.25}}));
}

TEMPLATE_TEST_CASE("Shaped rewards are written to a block of rows, and nothing beside it changes", "", float, double) {
  using S = TestType;
  const matrix<S> reference{{1, 2, 3, 4}, {0, 0, 8, 8}}, rewards{{2, 9, 0}, {0, 4, 8}};
  const std::vector<int> prompt{1, 0, 0, 1};
  const array<S> flat{{0, 2, 9, 8}};
  const auto shape = calibration{reference} | normalized_exponential{.t = 3} | power{.exponent = 2};
  matrix<S> whole(2, 3);
  array<S> column(4);
  shape.into(whole, rewards);
  CHECK(same(whole, shape(rewards)));
  shape.into(column, prompt, flat);
  CHECK(same(column, shape(prompt, flat)));

  surrounded<S> buffer(2, 3), row(1, 4);
  shape.into(buffer.block(), rewards);
  CHECK(same(buffer.block(), shape(rewards)));
  buffer.block() = rewards;
  shape.into(buffer.block(), buffer.block());  // in place
  CHECK(same(buffer.block(), shape(rewards)));
  CHECK(buffer.rest_unchanged());
  shape.into(row.block().row(0), prompt, flat);
  CHECK(same(row.block().row(0).transpose(), shape(prompt, flat)));
  CHECK(row.rest_unchanged());
  CHECK(error_of([&] { shape.into(whole, matrix<S>::Zero(2, 4)); }) ==
        "calibrate_into: expected a result of 2 x 4, got 2 x 3");
  CHECK(error_of([&] { shape.into(column, prompt, flat.head(3)); }) ==
        "calibrate: expected 3 prompt indices, one for each reward, got 4");
}

TEST_CASE("An error in a strided buffer names its row") {
  const matrix<double> reference{{1, 2}, {1, 2}}, rewards{{1.5, 1.5}, {1.5, 0}};
  matrix<double> table(2, 5);
  const auto reward = calibration{reference} | logarithm{};
  CHECK(error_of([&] { reward.into(table.leftCols(2), rewards); }) ==
        "transform: expected a finite value of the transform, got -inf for 0 at row 1, column 1");
}

TEST_CASE("A std::vector or a std::span of rewards is shaped by prompt index") {
  const auto shape = calibration{matrix<float>{{1, 2, 3, 4}, {10, 20, 30, 40}}} | [](float u) { return 4 * u; };
  const std::vector<int> prompt{1, 0, 1};
  const std::vector<float> rewards{25, 4, 5};
  const array<float> expected{{2, 3.5f, 0}};
  CHECK(same(shape(prompt, rewards), expected));
  CHECK(same(shape(prompt, std::span<const float>(rewards)), expected));
  array<float> result(3);
  shape.into(result, prompt, rewards);
  CHECK(same(result, expected));
}
