// SPDX-License-Identifier: MIT
#include <infalign/calibration/calibrate.hpp>
#include <infalign/calibration/leave_one_out.hpp>
#include <infalign/calibration/rank.hpp>

#include "arrays.hpp"

#include <vector>

using namespace infalign;
using Eigen::Index;

// The reference 1 2 2 2 5 7 7 9, in some order. (below, tied) of the rewards 0 1 2 3 7 9 10:
// (0, 0) (0, 1) (1, 3) (4, 0) (5, 2) (7, 1) (8, 0).
TEMPLATE_TEST_CASE("Each rank functor has the values of its formula", "", float, double) {
  using S = TestType;
  const matrix<S> reference{{7, 2, 9, 2, 1, 5, 7, 2}}, rewards{{0, 1, 2, 3, 7, 9, 10}};
  const auto check = [&](const auto& rank, const std::vector<double>& expected) {
    const matrix<S> u = calibrate(reference, rewards, rank);
    for (Index m = 0; m < 7; ++m)
      CHECK(u(0, m) == near(expected[static_cast<std::size_t>(m)], std::numeric_limits<S>::epsilon() / 2));
  };
  check(mid_rank{}, {0, 1. / 16, 5. / 16, 1. / 2, 3. / 4, 15. / 16, 1});
  check(strict_rank{}, {0, 0, 1. / 8, 1. / 2, 5. / 8, 7. / 8, 1});
  check(weak_rank{}, {0, 1. / 8, 1. / 2, 1. / 2, 7. / 8, 1, 1});
  check(add_one_rank{}, {1. / 9, 1. / 9, 2. / 9, 5. / 9, 6. / 9, 8. / 9, 1});
  check(win_probability{best_of{2}}, {0, 1. / 128, 17. / 128, 1. / 4, 74. / 128, 113. / 128, 1});
  check(win_probability{worst_of{2}}, {0, 15. / 128, 63. / 128, 3. / 4, 118. / 128, 127. / 128, 1});
  check(win_probability{plain_sampling{}}, {0, 1. / 16, 5. / 16, 1. / 2, 3. / 4, 15. / 16, 1});
  check([](Index below, Index tied, Index count) { return 100. * static_cast<double>(below + 10 * tied + count); },
        {800, 1800, 3900, 1200, 3300, 2500, 1600});
  CHECK(same(calibrate(reference, rewards), calibrate(reference, rewards, mid_rank{})));
}

TEST_CASE("Against plain sampling the win probability is the mid-rank") {
  const win_probability against_one{plain_sampling{}};
  const win_probability against_best_of_one{best_of{1}};
  for (Index count = 1; count < 40; ++count)
    for (Index below = 0; below <= count; ++below)
      for (Index tied = 0; below + tied <= count; ++tied) {
        CHECK(against_one(below, tied, count) == near(mid_rank{}(below, tied, count), 1.2e-16));
        CHECK(against_best_of_one(below, tied, count) == near(mid_rank{}(below, tied, count), 1.2e-16));
      }
}

TEST_CASE("A win probability checks its procedure when it is made") {
  const std::string wrong = "best_of: expected n of at least 1, got 0";
  const matrix<float> reference{{1, 2}};
  CHECK(error_of([&] { win_probability{best_of{0}}; }) == wrong);
  CHECK(error_of([&] { calibration{reference, win_probability{best_of{0}}}; }) == wrong);
}

TEST_CASE("A rank functor that returns NaN or infinity is an error, and one that returns integers is none") {
  const matrix<double> reference{{1, 2, 3, 4}}, rewards = array<double>::LinSpaced(11, 0, 5).transpose();
  const auto bad_above = [](double bad) {
    return [bad](Eigen::Index below, Eigen::Index, Eigen::Index count) {
      return below > 2 ? bad : static_cast<double>(below) / static_cast<double>(count);
    };
  };
  CHECK(error_of([&] { calibrate(reference, rewards, bad_above(NaN)); }) ==
        "calibrate: expected a finite number from the rank functor, got NaN for below 3, tied 0, count 4");
  CHECK(error_of([&] { calibrate(reference, rewards, bad_above(infinity<double>)); }) ==
        "calibrate: expected a finite number from the rank functor, got inf for below 3, tied 0, count 4");
  CHECK(error_of([&] { calibrate_leave_one_out(rewards, bad_above(NaN)); }) ==
        "calibrate: expected a finite number from the rank functor, got NaN for below 3, tied 0, count 10");
  CHECK(error_of([&] { calibrate(reference, rewards, bad_above(7)); }) == "no error");  // its range is its own

  const matrix<double> with_missing{{1, NaN}};
  const auto nan_for_none = [](Eigen::Index below, Eigen::Index, Eigen::Index) { return below > 0 ? NaN : 0.5; };
  CHECK(error_of([&] { calibrate(reference, with_missing, nan_for_none, unscored::propagate); }) == "no error");

  const auto integers = [](Eigen::Index below, Eigen::Index, Eigen::Index count) { return below / count; };
  STATIC_REQUIRE_FALSE(rank_functor<decltype(integers)>);
  const auto floats = [](Eigen::Index below, Eigen::Index, Eigen::Index count) {
    return static_cast<float>(below) / static_cast<float>(count);
  };
  STATIC_REQUIRE(rank_functor<decltype(floats)>);
}
