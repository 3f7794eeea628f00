// SPDX-License-Identifier: MIT
#include <infalign/calibration/leave_one_out.hpp>

#include "arrays.hpp"

#include <random>
#include <span>
#include <vector>

using namespace infalign;
using Eigen::Index;

// The others of 3 among 3 1 3 2 are 1 3 2: (2 + ½)/3.
TEMPLATE_TEST_CASE("Leave-one-out ranks each response among the others to its prompt", "", float, double) {
  using S = TestType;
  const S none = missing<S>, third = S(1. / 3), high = S(2.5 / 3);
  CHECK(same(calibrate_leave_one_out(matrix<S>{{3, 1, 3, 2}, {4, 4, 4, 4}}),
             matrix<S>{{high, 0, high, third}, {0.5, 0.5, 0.5, 0.5}}));
  CHECK(same(calibrate_leave_one_out(matrix<S>{{3, 1, 3, 2}}, add_one_rank{}), matrix<S>{{0.75, 0.25, 0.75, 0.5}}));
  CHECK(same(calibrate_leave_one_out(Eigen::Array<S, 1, 2>(-infinity<S>, infinity<S>)), matrix<S>{{0, 1}}));

  const std::vector<int> prompt{8, -1, 8, 8, -1, 8};
  const array<S> rewards{{3, 6, 1, 3, 5, 2}};
  CHECK(same(calibrate_leave_one_out(prompt, rewards), array<S>{{high, 1, 0, high, 0, third}}));
  CHECK(
      same(calibrate_leave_one_out(prompt, rewards, strict_rank{}), array<S>{{S(2. / 3), 1, 0, S(2. / 3), 0, third}}));
  CHECK(same(calibrate_leave_one_out(prompt, array<S>{{3, 6, 1, none, none, 2}}, mid_rank{}, unscored::propagate),
             array<S>{{1, none, 0, none, none, 0.5}}));
  CHECK(same(calibrate_leave_one_out(matrix<S>{{1, none, 2}, {none, 5, none}}, mid_rank{}, unscored::propagate),
             matrix<S>{{0, none, 1}, {none, none, none}}));

  CHECK(error_of([&] {
          calibrate_leave_one_out(matrix<S>{{1, 2}, {3, none}});
        }) == "calibrate_leave_one_out: expected rewards that are numbers, got NaN at row 1, column 1");
  CHECK(error_of([&] {
          calibrate_leave_one_out(matrix<S>{{1}, {2}});
        }) == "calibrate_leave_one_out: expected at least 2 responses to each prompt, got 1 at row 0, column 0");
  CHECK(error_of([&] {
          calibrate_leave_one_out(std::vector<int>{4, 9, 4}, array<S>{{1, 2, 3}});
        }) == "calibrate_leave_one_out: expected at least 2 responses to each prompt, got 1 at index 1");
  CHECK(error_of([&] {
          calibrate_leave_one_out(std::vector<int>{4, 4}, array<S>{{1, 2, 3}});
        }) == "calibrate_leave_one_out: expected 3 prompt indices, one for each reward, got 2");
}

TEMPLATE_TEST_CASE("A leave-one-out rank equals that found by sorting, for the whole batch and for parts of it", "",
                   float, double) {
  using S = TestType;
  std::mt19937 random(2);
  const matrix<S> rewards = table_of<S>(200, 5, [&] { return static_cast<S>(random() % 30) / 7; });
  const matrix<S> others = calibrate_leave_one_out(rewards);
  for (Index p = 0; p < 200; ++p) {
    CHECK(same(calibrate_leave_one_out(rewards.row(p)), others.row(p)));
    CHECK(same(calibrate_leave_one_out(std::vector<int>(5, 3), rewards.row(p)).transpose(), others.row(p)));
    for (Index m = 0; m < 5; ++m) {
      std::vector<S> rest(rewards.row(p).begin(), rewards.row(p).end());
      rest.erase(rest.begin() + m);
      CHECK(others(p, m) == mid_rank_by_sorting(rest, rewards(p, m)));
    }
  }
}

TEMPLATE_TEST_CASE("A batch may have no prompts, and the rewards do not change", "", float, double) {
  using S = TestType;
  CHECK(same(calibrate_leave_one_out(matrix<S>(0, 5)), matrix<S>(0, 5)));
  std::vector<S> rewards{2, 3};
  calibrate_leave_one_out(Eigen::Map<matrix<S>>(rewards.data(), 1, 2));
  CHECK(rewards == std::vector<S>{2, 3});
}

TEMPLATE_TEST_CASE("A row is the responses to one prompt, and a column has no other response to a prompt", "", float,
                   double) {
  using S = TestType;
  const matrix<S> rewards{{3, 1}, {2, 2}};
  const auto row = calibrate_leave_one_out(rewards.row(0));
  STATIC_REQUIRE(std::is_same_v<decltype(row), const matrix<S>>);
  CHECK(same(row, matrix<S>{{1, 0}}));
  CHECK(error_of([&] { calibrate_leave_one_out(rewards.col(0)); }) ==
        "calibrate_leave_one_out: expected at least 2 responses to each prompt, got 1 at row 0, column 0");
}

TEMPLATE_TEST_CASE("Results are written to a block of rows, with a workspace or without, and nothing beside it changes",
                   "", float, double) {
  using S = TestType;
  const matrix<S> rewards{{3, 1, 3, 2}, {4, 6, 5, 7}};
  const std::vector<int> prompt{8, -1, 8, 8, -1, 8};
  const array<S> flat{{3, 6, 1, 3, 5, 2}};
  const matrix<S> expected = calibrate_leave_one_out(rewards);
  workspace space;
  matrix<S> whole(2, 4);
  calibrate_leave_one_out_into(whole, rewards);
  CHECK(same(whole, expected));
  whole = rewards;
  calibrate_leave_one_out_into(whole, space, whole);  // in place
  CHECK(same(whole, expected));
  S memory[8];
  calibrate_leave_one_out_into(Eigen::Map<matrix<S>>(memory, 2, 4), rewards.matrix());
  CHECK(same(Eigen::Map<matrix<S>>(memory, 2, 4), expected));

  surrounded<S> buffer(2, 4), row(1, 6);
  calibrate_leave_one_out_into(buffer.block(), rewards);
  CHECK(same(buffer.block(), expected));
  buffer.block() = rewards;
  calibrate_leave_one_out_into(buffer.block(), space, buffer.block(), add_one_rank{});
  CHECK(same(buffer.block(), calibrate_leave_one_out(rewards, add_one_rank{})));
  CHECK(buffer.rest_unchanged());
  calibrate_leave_one_out_into(row.block().row(0), space, prompt, flat, strict_rank{}, unscored::propagate);
  CHECK(same(row.block().row(0).transpose(), calibrate_leave_one_out(prompt, flat, strict_rank{})));
  CHECK(row.rest_unchanged());

  CHECK(error_of([&] { calibrate_leave_one_out_into(whole, matrix<S>::Zero(2, 5)); }) ==
        "calibrate_leave_one_out: expected a result of 2 x 5, got 2 x 4");
  CHECK(error_of([&] { calibrate_leave_one_out_into(row.block().row(0), prompt, flat.head(5)); }) ==
        "calibrate_leave_one_out: expected 5 prompt indices, one for each reward, got 6");
  array<S> five(5);
  CHECK(error_of([&] { calibrate_leave_one_out_into(five, space, prompt, flat); }) ==
        "calibrate_leave_one_out: expected 6 numbers in the result, one for each reward, got 5");
}

TEST_CASE("A rank functor is checked when it is put to use") {
  struct wrong_rank {
    void check() const { detail::fail("wrong_rank", "a right one", "a wrong one"); }
    double operator()(Index, Index, Index) const { return 0; }
  };
  matrix<float> result(1, 2);
  const matrix<float> rewards{{1, 2}};
  const std::string wrong = "wrong_rank: expected a right one, got a wrong one";
  CHECK(error_of([&] { calibrate_leave_one_out(rewards, wrong_rank{}); }) == wrong);
  CHECK(error_of([&] { calibrate_leave_one_out_into(result, rewards, wrong_rank{}); }) == wrong);
}

TEST_CASE("Without a reference table too, the rewards of a flat batch may be a std::vector or a std::span") {
  const std::vector<int> prompt{0, 1, 0, 1, 0};
  const std::vector<float> rewards{3, 8, 1, 7, 3};
  const array<float> expected{{0.75f, 1, 0, 0, 0.75f}};  // of 3 among 1, 3: below 1, tied 1
  CHECK(same(calibrate_leave_one_out(prompt, rewards), expected));
  array<float> result(5);
  workspace space;
  calibrate_leave_one_out_into(result, space, prompt, std::span<const float>(rewards));
  CHECK(same(result, expected));
}
