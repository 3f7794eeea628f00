// SPDX-License-Identifier: MIT
#include <infalign/calibration/calibrate.hpp>
#include <infalign/calibration/leave_one_out.hpp>

#include "arrays.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <random>
#include <span>
#include <utility>
#include <vector>

using namespace infalign;
using Eigen::Index;

TEMPLATE_TEST_CASE("A flat batch finds its rows by prompt index, in any order", "", float, double) {
  using S = TestType;
  const matrix<S> reference{{1, 2, 3, 4}, {10, 20, 30, 40}, {0, 0, 5, 5}};
  const array<S> rewards{{2.5, 25, 5, 0, 10, 5}}, expected{{0.5, 0.5, 0.75, 0.25, 0.125, 1}};
  const std::vector<int> prompt{0, 1, 2, 2, 1, 0};
  const auto check = [&](const auto& index) { CHECK(same(calibrate(reference, index, rewards), expected)); };
  check(prompt);
  check(std::vector<std::size_t>(prompt.begin(), prompt.end()));
  check(std::vector<std::int8_t>(prompt.begin(), prompt.end()));
  check(std::vector<std::uint64_t>(prompt.begin(), prompt.end()));
  check(std::vector<char>(prompt.begin(), prompt.end()));
  check(Eigen::ArrayXi{{0, 1, 2, 2, 1, 0}});
  check(Eigen::Array<Index, 1, 6>{0, 1, 2, 2, 1, 0});
  check(Eigen::VectorXi{{0, 1, 2, 2, 1, 0}});
  check(Eigen::Map<const Eigen::ArrayXi>(prompt.data(), 6));
  CHECK(same(calibrate(reference, prompt, rewards.transpose()), expected));
  CHECK(same(calibrate(reference, prompt, rewards.matrix()), expected));
  CHECK(same(calibrate(reference, prompt, rewards + S{0}), expected));
  CHECK(same(calibrate(reference, prompt, rewards, weak_rank{}), array<S>{{0.5, 0.5, 1, 0.5, 0.25, 1}}));
  CHECK(same(calibrate(reference, std::vector<bool>{true, false}, array<S>{{25, 2.5}}), array<S>{{0.5, 0.5}}));
  CHECK(calibrate(reference, std::vector<int>{}, array<S>()).size() == 0);
}

TEMPLATE_TEST_CASE("The rows of a reference may differ in length", "", float, double) {
  using S = TestType;
  const ragged lines(std::vector<std::vector<S>>{{1, 2}, {5}, {3, 1, 2}});
  CHECK(same(calibrate(lines, matrix<S>{{0, 2}, {5, 6}, {2, 2.5}}),
             matrix<S>{{0, 0.75}, {0.5, 1}, {S(1.5 / 3), S(2. / 3)}}));
  const array<S> flat{{2.5, 5, 2}};
  CHECK(same(calibrate(lines, std::vector<int>{2, 1, 0}, flat), array<S>{{S(2. / 3), 0.5, 0.75}}));
  CHECK(same(calibration{lines}(std::vector<int>{2, 1, 0}, flat), array<S>{{S(2. / 3), 0.5, 0.75}}));

  const ragged gap(std::vector<std::vector<S>>{{1, 2}, {}});
  CHECK(same(calibrate(gap, std::vector<int>{0}, array<S>{{1.5}}), array<S>{{0.5}}));
  CHECK(error_of([&] { calibrate(gap, matrix<S>::Zero(2, 1)); }) ==
        "calibrate: expected at least one reference reward for each prompt, got none at row 1");
  CHECK(error_of([&] {
          calibrate(gap, std::vector<int>{0, 1}, array<S>{{1, 1}});
        }) == "calibrate: expected at least one reference reward for each prompt, got none at row 1");
}

TEMPLATE_TEST_CASE("Any Eigen object or expression is accepted; a row is one prompt, a column one response to each", "",
                   float, double) {
  using S = TestType;
  std::mt19937 random(1);
  const auto draw = [&] { return random() % 8; };
  const matrix<S> reference = table_of<S>(6, 8, draw), rewards = table_of<S>(6, 4, draw);
  const matrix<S> expected = calibrate(reference, rewards);
  const auto check = [&](const auto& r, const auto& x) {
    CHECK(same(calibrate(r, x), expected));
    CHECK(same(calibration{r}(x), expected));
  };
  using columns = Eigen::Array<S, Eigen::Dynamic, Eigen::Dynamic>;
  using stride = Eigen::Stride<Eigen::Dynamic, Eigen::Dynamic>;
  const columns r = reference, x = rewards;
  matrix<S> wide_r = matrix<S>::Constant(12, 24, missing<S>), wide_x = wide_r;
  Eigen::Map<matrix<S>, 0, stride> strided_r(wide_r.data(), 6, 8, stride(48, 3));
  Eigen::Map<matrix<S>, 0, Eigen::OuterStride<>> strided_x(wide_x.data(), 6, 4, Eigen::OuterStride<>(30));
  strided_r = reference;
  strided_x = rewards;
  check(r, x);
  check(r.matrix(), x.matrix());
  check(reference.matrix(), x);
  check(Eigen::Matrix<S, Eigen::Dynamic, Eigen::Dynamic>(r.matrix()), rewards.matrix());
  check(Eigen::Array<S, 6, 8>(r), Eigen::Array<S, 6, 4, Eigen::RowMajor>(x));
  check(Eigen::Map<const matrix<S>>(reference.data(), 6, 8), Eigen::Map<const matrix<S>>(rewards.data(), 6, 4));
  check(strided_r, strided_x);
  check(Eigen::Ref<const matrix<S>>(reference), Eigen::Ref<const columns>(x));
  check(reference.reverse().reverse(), rewards + rewards - rewards);
  check(reference.block(0, 0, 6, 8), rewards.transpose().transpose());

  const auto row = calibrate(reference.row(2), rewards.row(2));
  const auto column = calibrate(reference.col(3), rewards.col(1));
  STATIC_REQUIRE(std::is_same_v<decltype(row), const matrix<S>>);    // 1 x M
  STATIC_REQUIRE(std::is_same_v<decltype(column), const array<S>>);  // P x 1
  CHECK(same(row, expected.row(2)));
  for (Index p = 0; p < 6; ++p)
    CHECK(column[p] == (rewards(p, 1) > reference(p, 3) ? 1 : rewards(p, 1) < reference(p, 3) ? 0 : 0.5));
}

TEMPLATE_TEST_CASE("A batch may have one prompt, one response or one reference reward, or none", "", float, double) {
  using S = TestType;
  CHECK(same(calibrate(matrix<S>{{3}}, matrix<S>{{3}}), matrix<S>{{0.5}}));
  CHECK(same(calibrate(matrix<S>{{3}, {4}}, matrix<S>{{3, 9}, {3, 4}}), matrix<S>{{0.5, 1}, {0, 0.5}}));
  CHECK(same(calibrate(matrix<S>::Zero(3, 2), matrix<S>(3, 0)), matrix<S>(3, 0)));
  CHECK(same(calibrate(matrix<S>(0, 5), matrix<S>(0, 2)), matrix<S>(0, 2)));
  CHECK(same(calibration{matrix<S>(0, 5)}(matrix<S>(0, 2)), matrix<S>(0, 2)));
}

TEMPLATE_TEST_CASE("Infinities are rewards, both zeros are equal, and the smallest numbers differ", "", float, double) {
  using S = TestType;
  const S inf = infinity<S>, tiny = std::numeric_limits<S>::denorm_min(), max = std::numeric_limits<S>::max();
  const matrix<S> reference{{-inf, -tiny, -S{0}, S{0}, tiny, max, inf, inf}};
  const matrix<S> rewards{{-inf, -max, -tiny, -S{0}, S{0}, tiny, 2 * tiny, max, inf}};
  CHECK(same(calibrate(reference, rewards) * 16, matrix<S>{{1, 2, 3, 6, 6, 9, 10, 11, 14}}));
}

TEMPLATE_TEST_CASE("NaN is an error with its position, or it is propagated and left out of the counts", "", float,
                   double) {
  using S = TestType;
  const S none = missing<S>;
  const matrix<S> reference{{1, 2, none, 4}, {4, none, 4, none}}, rewards{{2, none, 9}, {4, 5, none}};
  const matrix<S> whole{{1, 2, 3, 4}, {4, 4, 4, 4}}, scored{{2, 2, 9}, {4, 5, 1}};
  const std::vector<int> prompt{1, 0, 1};
  CHECK(same(calibrate(reference, rewards, mid_rank{}, unscored::propagate),
             matrix<S>{{S(0.5), none, 1}, {0.5, 1, none}}));
  CHECK(same(calibrate(reference, rewards, add_one_rank{}, unscored::propagate),
             matrix<S>{{0.5, none, 1}, {S(1. / 3), 1, none}}));
  const array<S> flat{{4, none, 3}};
  CHECK(same(calibrate(reference, prompt, flat, weak_rank{}, unscored::propagate), array<S>{{1, none, 0}}));
  CHECK(same(calibration{reference, mid_rank{}, unscored::propagate}(prompt, flat), array<S>{{0.5, none, 0}}));

  CHECK(error_of([&] { calibrate(whole, rewards); }) ==
        "calibrate: expected rewards that are numbers, got NaN at row 0, column 1");
  CHECK(error_of([&] { calibrate(reference, scored); }) ==
        "calibrate: expected reference rewards that are numbers, got NaN at row 0, column 2");
  CHECK(error_of([&] { calibrate(whole, prompt, flat); }) ==
        "calibrate: expected rewards that are numbers, got NaN at index 1");
  CHECK(error_of([&] {
          calibrate(reference, prompt, array<S>{{1, 1, 1}});
        }) == "calibrate: expected reference rewards that are numbers, got NaN at row 1, column 1");
  CHECK(error_of([&] { calibration{reference}; }) ==
        "calibration: expected reference rewards that are numbers, got NaN at row 0, column 2");
  // One bad row does not sink a table: its ranks are NaN, in a matrix and in a flat batch.
  const matrix<S> bad_row{{none, none}, {1, 2}};
  CHECK(same(calibrate(bad_row, matrix<S>{{1, 2}, {2, 3}}, mid_rank{}, unscored::propagate),
             matrix<S>{{none, none}, {0.75, 1}}));
  CHECK(same(calibrate(bad_row, std::vector<int>{1, 0, 1}, array<S>{{2, 1, 3}}, mid_rank{}, unscored::propagate),
             array<S>{{0.75, none, 1}}));
  CHECK(same(calibration(bad_row, mid_rank{}, unscored::propagate)(matrix<S>{{1}, {3}}), matrix<S>{{none}, {1}}));
}

TEMPLATE_TEST_CASE("Sizes and indices that do not fit are rejected", "", float, double) {
  using S = TestType;
  const matrix<S> reference = matrix<S>::Zero(3, 4);
  const array<S> flat = array<S>::Zero(2);
  CHECK(error_of([&] { calibrate(reference, matrix<S>::Zero(2, 4)); }) ==
        "calibrate: expected 3 rows of rewards, one for each row of the reference, got 2");
  CHECK(error_of([&] { calibrate(matrix<S>(3, 0), matrix<S>::Zero(3, 1)); }) ==
        "calibrate: expected at least one reference reward for each prompt, got none at row 0");
  CHECK(error_of([&] { calibration{matrix<S>(3, 0)}; }) ==
        "calibration: expected at least one reference reward for each prompt, got none at row 0");
  const auto error = [&](const auto& prompt) { return error_of([&] { calibrate(reference, prompt, flat); }); };
  CHECK(error(std::vector<int>{0, 2}) == "no error");
  CHECK(error(std::vector<int>{0, 1, 2}) == "calibrate: expected 2 prompt indices, one for each reward, got 3");
  CHECK(error(std::vector<int>{}) == "calibrate: expected 2 prompt indices, one for each reward, got 0");
  CHECK(error(std::vector<int>{0, 3}) == "calibrate: expected prompt indices from 0 to 2, got 3 at index 1");
  CHECK(error(std::vector<int>{-1, 0}) == "calibrate: expected prompt indices from 0 to 2, got -1 at index 0");
  CHECK(error(std::vector<std::uint64_t>{0, ~std::uint64_t{0}}) ==
        "calibrate: expected prompt indices from 0 to 2, got 18446744073709551615 at index 1");
  CHECK(error(std::vector<unsigned>{~0u, 0}) ==
        "calibrate: expected prompt indices from 0 to 2, got 4294967295 at index 0");
  CHECK(error_of([&] {
          calibrate(matrix<S>(0, 4), std::vector<int>{0, 0}, flat);
        }) == "calibrate: expected a reference with a row for each prompt, got no rows");
  CHECK(error(Eigen::ArrayXi{{5, 0}}) == "calibrate: expected prompt indices from 0 to 2, got 5 at index 0");
}

TEMPLATE_TEST_CASE("The functor owns a matrix, and does not copy a view", "", float, double) {
  using S = TestType;
  using map = Eigen::Map<matrix<S>>;
  const matrix<S> rewards{{2.5}}, half{{0.5}}, zero{{0}};
  std::vector<S> buffer{1, 2, 3, 4};
  matrix<S> table = map(buffer.data(), 1, 4);
  const ragged lines(Eigen::Map<const array<S>>(buffer.data(), 4), std::vector<int>{0, 4});

  const calibration of_matrix{table};
  const calibration of_map{map(buffer.data(), 1, 4)};
  const calibration of_lines{lines};
  const calibration of_ref{Eigen::Ref<const matrix<S>>(map(buffer.data(), 1, 4))};
  using columns = Eigen::Array<S, Eigen::Dynamic, Eigen::Dynamic, Eigen::ColMajor>;
  const calibration of_columns{Eigen::Map<const columns>(buffer.data(), 1, 4)};
  const calibration of_expression{table + S{0}, strict_rank{}};
  const calibration of_row{table.row(0).matrix()};
  STATIC_REQUIRE(std::is_same_v<decltype(of_matrix), const calibration<matrix<S>, mid_rank>>);
  STATIC_REQUIRE(std::is_same_v<decltype(of_map), const calibration<map, mid_rank>>);
  STATIC_REQUIRE(std::is_same_v<decltype(of_ref), const calibration<Eigen::Ref<const matrix<S>>, mid_rank>>);
  STATIC_REQUIRE(std::is_same_v<decltype(of_lines), const calibration<std::remove_const_t<decltype(lines)>, mid_rank>>);
  STATIC_REQUIRE(std::is_same_v<decltype(of_columns), const calibration<matrix<S>, mid_rank>>);
  STATIC_REQUIRE(std::is_same_v<decltype(of_expression), const calibration<matrix<S>, strict_rank>>);
  STATIC_REQUIRE(std::is_same_v<decltype(of_row), const calibration<matrix<S>, mid_rank>>);

  const auto copy = of_map;
  table.setConstant(5);
  for (S& x : buffer) x = 6;
  CHECK(same(of_matrix(rewards), half));
  CHECK(same(of_columns(rewards), half));
  CHECK(same(of_expression(rewards), half));
  CHECK(same(of_row(rewards), half));
  CHECK(same(of_map(rewards), zero));
  CHECK(same(of_ref(rewards), zero));
  CHECK(same(of_lines(rewards), zero));
  CHECK(same(copy(rewards), zero));
  buffer[3] = missing<S>;
  CHECK(error_of([&] { of_map(rewards); }) ==
        "calibrate: expected reference rewards that are numbers, got NaN at row 0, column 3");

  const calibration moved{std::move(table)};
  CHECK(table.size() == 0);  // NOLINT: it was moved, not copied
  CHECK(same(moved(rewards), zero));
}

TEMPLATE_TEST_CASE("The inputs do not change, also if there is an error", "", float, double) {
  using S = TestType;
  std::vector<S> reference{3, 1, 2, 4}, rewards{2, 3};
  const auto map = [](std::vector<S>& x) { return Eigen::Map<matrix<S>>(x.data(), 1, std::ssize(x)); };
  CHECK(same(calibrate(map(reference), map(rewards)), matrix<S>{{0.375, 0.625}}));
  CHECK(reference == std::vector<S>{3, 1, 2, 4});
  CHECK(rewards == std::vector<S>{2, 3});
  reference[3] = missing<S>;
  CHECK_THROWS_AS(calibrate(map(reference), map(rewards)), std::invalid_argument);
  CHECK(rewards == std::vector<S>{2, 3});
}

TEMPLATE_TEST_CASE("A rank equals that found by sorting, for the whole batch and for parts of it", "", float, double) {
  using S = TestType;
  std::mt19937 random(2);
  std::vector<std::vector<S>> lines(200);
  for (auto& line : lines) {
    line.resize(1 + random() % 40);
    const auto levels = 1 + random() % 30;  // from all tied to hardly any
    for (S& z : line) z = static_cast<S>(random() % levels) / 7;
  }
  const ragged reference(lines);
  const matrix<S> rewards = table_of<S>(200, 5, [&] { return static_cast<S>(random() % 30) / 7; });
  const matrix<S> u = calibrate(reference, rewards);
  const calibration shape{reference};
  CHECK(same(shape(rewards), u));
  CHECK(same(calibration{reference, weak_rank{}}(rewards), calibrate(reference, rewards, weak_rank{})));

  std::vector<int> prompt(1000);
  for (int& p : prompt) p = static_cast<int>(random() % 200);
  const array<S> flat = table_of<S>(1000, 1, [&] { return static_cast<S>(random() % 30) / 7; }).reshaped();
  const array<S> v = calibrate(reference, prompt, flat);
  CHECK(same(shape(prompt, flat), v));
  for (Index i = 0; i < 1000; ++i) {
    const auto p = prompt[static_cast<std::size_t>(i)];
    CHECK(v[i] == mid_rank_by_sorting(lines[static_cast<std::size_t>(p)], flat[i]));
    CHECK(v[i] == calibrate(reference, std::vector<int>{p}, flat.segment(i, 1))[0]);
  }
  for (Index p = 0; p < 200; ++p) {
    const ragged one(std::vector<std::vector<S>>{lines[static_cast<std::size_t>(p)]});
    CHECK(same(calibrate(one, rewards.row(p)), u.row(p)));
    for (Index m = 0; m < 5; ++m)
      CHECK(u(p, m) == mid_rank_by_sorting(lines[static_cast<std::size_t>(p)], rewards(p, m)));
  }
}

TEMPLATE_TEST_CASE("Strictly increasing maps of the rewards do not change the result, bit for bit", "", float, double) {
  using S = TestType;
  std::mt19937 random(3);
  std::vector<S> ladder(81);  // a map by ranks alone: random steps up
  for (S at = -1000; S & step : ladder) step = at += static_cast<S>(1 + random() % 1000);
  const std::vector<S (*)(S)> maps{
      [](S x) { return 4 * x + 3; },          [](S x) { return std::ldexp(x, -100); },
      [](S x) { return std::ldexp(x, 100); }, [](S x) { return std::exp(x); },
      [](S x) { return std::atan(x); },       [](S x) { return x * x * x; },
      [](S x) { return std::cbrt(x); },       [](S x) { return x == 5 ? infinity<S> : x == -5 ? -infinity<S> : x; }};
  const auto draw = [&] { return (static_cast<S>(random() % 81) - 40) / 8; };  // the grid −5, −4.875 .. 5
  const matrix<S> reference = table_of<S>(20, 33, draw), rewards = table_of<S>(20, 9, draw);
  const auto check = [&](const auto& f) {
    for (S x = -5; x < 5; x += S(0.125)) REQUIRE(f(x) < f(x + S(0.125)));
    const matrix<S> z = reference.unaryExpr(f), r = rewards.unaryExpr(f);
    CHECK(same(calibrate(z, r), calibrate(reference, rewards)));
    CHECK(same(calibrate(z, r, add_one_rank{}), calibrate(reference, rewards, add_one_rank{})));
    const win_probability win{best_of{4}};
    CHECK(same(calibrate(z, r, win), calibrate(reference, rewards, win)));
    CHECK(same(calibrate_leave_one_out(r), calibrate_leave_one_out(rewards)));
  };
  for (const auto f : maps) check(f);
  check([&](S x) { return ladder[static_cast<std::size_t>(x * 8 + 40)]; });
}

// Kolmogorov and Smirnov: for n = 250 rewards against K = 2000, sup|F − F₀|·sqrt(nK/(n + K)) is below 1.63 in 99 of
// 100.
TEMPLATE_TEST_CASE("Under the reference policy the calibrated reward is uniform for any distribution", "", float,
                   double) {
  using S = TestType;
  const auto check = [](auto distribution) {
    std::mt19937 random(4);
    const auto draw = [&] { return static_cast<S>(distribution(random)); };
    const array<S> u = calibrate(table_of<S>(1, 2000, draw), table_of<S>(1, 250, draw)).reshaped();
    std::vector<S> sorted(u.begin(), u.end());
    std::sort(sorted.begin(), sorted.end());
    double distance = 0;
    for (std::size_t i = 0; i < 250; ++i)
      distance = std::max({distance, std::abs(sorted[i] - static_cast<double>(i) / 250),
                           std::abs(sorted[i] - static_cast<double>(i + 1) / 250)});
    CHECK(distance * std::sqrt(250. * 2000 / 2250) < 1.63);
    CHECK(distance > 0.002);
  };
  check(std::normal_distribution<double>(-40, 0.1));
  check(std::exponential_distribution<double>(3));
  check(std::cauchy_distribution<double>());
  check(std::lognormal_distribution<double>(0, 3));
  check(std::uniform_real_distribution<double>());
}

// Σ over k of (below_k + ½·tied_k) = ½K², since each pair counts 1 in all. K = 64: the sum is exact in floating point.
TEMPLATE_TEST_CASE("The mean rank of the reference among itself is exactly one half", "", float, double) {
  using S = TestType;
  std::mt19937 random(5);
  for (unsigned levels : {1u, 2u, 5u, 1000u}) {
    const matrix<S> z = table_of<S>(10, 64, [&] { return random() % levels; });
    CHECK((calibrate(z, z).rowwise().sum() == 32).all());
  }
}

TEMPLATE_TEST_CASE("Results are written to the caller's buffer, also in place", "", float, double) {
  using S = TestType;
  const matrix<S> reference{{1, 2, 3, 4}, {0, 0, 8, 8}}, rewards{{2, 9, 0}, {0, 4, 8}};
  const matrix<S> expected = calibrate(reference, rewards);
  matrix<S> result(2, 3);
  calibrate_into(result, reference, rewards);
  CHECK((result == expected).all());
  result = rewards;
  calibrate_into(result, reference, result);  // in place
  CHECK((result == expected).all());
  S buffer[6];
  calibrate_into(Eigen::Map<matrix<S>>(buffer, 2, 3), reference, rewards.matrix(), add_one_rank{});
  CHECK((Eigen::Map<matrix<S>>(buffer, 2, 3) == calibrate(reference, rewards, add_one_rank{})).all());
  matrix<S> rows = matrix<S>::Zero(4, 3);
  calibrate_into(rows.middleRows(1, 2), reference, rewards);
  CHECK((rows.middleRows(1, 2) == expected).all());
  CHECK((rows.row(0) == 0 && rows.row(3) == 0).all());

  const std::vector<int> prompt{1, 0, 0, 1};
  const array<S> flat{{0, 2, 9, 8}};
  array<S> column(4);
  calibrate_into(column, reference, prompt, flat);
  CHECK((column == calibrate(reference, prompt, flat)).all());
  calibrate_into(Eigen::Map<array<S>>(buffer, 4), reference, prompt, flat.transpose());
  CHECK((Eigen::Map<array<S>>(buffer, 4) == column).all());

  CHECK(error_of([&] { calibrate_into(rows, reference, rewards); }) ==
        "calibrate_into: expected a result of 2 x 3, got 4 x 3");
  CHECK(error_of([&] { calibrate_into(column.head(3), reference, prompt, flat); }) ==
        "calibrate_into: expected 4 numbers in the result, one for each reward, got 3");
}

TEMPLATE_TEST_CASE("Results are written to a block of rows, and nothing beside it changes", "", float, double) {
  using S = TestType;
  const matrix<S> reference{{1, 2, 3, 4}, {0, 0, 8, 8}}, rewards{{2, 9, 0}, {0, 4, 8}};
  const std::vector<int> prompt{1, 0, 0, 1};
  const array<S> flat{{0, 2, 9, 8}};
  const calibration shape{reference};
  surrounded<S> buffer(2, 3), row(1, 4);
  calibrate_into(buffer.block(), reference, rewards);
  CHECK(same(buffer.block(), calibrate(reference, rewards)));
  buffer.block().setZero();
  shape.into(buffer.block(), rewards);
  CHECK(same(buffer.block(), calibrate(reference, rewards)));
  buffer.block() = rewards;
  calibrate_into(buffer.block(), reference, buffer.block());  // in place
  CHECK(same(buffer.block(), calibrate(reference, rewards)));
  CHECK(buffer.rest_unchanged());
  calibrate_into(row.block().row(0), reference, prompt, flat);
  CHECK(same(row.block().row(0).transpose(), calibrate(reference, prompt, flat)));
  CHECK(row.rest_unchanged());

  CHECK(error_of([&] { calibrate_into(buffer.block(), reference, matrix<S>::Zero(2, 4)); }) ==
        "calibrate_into: expected a result of 2 x 4, got 2 x 3");
  CHECK(error_of([&] { shape.into(buffer.block(), matrix<S>::Zero(2, 4)); }) ==
        "calibrate_into: expected a result of 2 x 4, got 2 x 3");
  CHECK(error_of([&] { calibrate_into(buffer.block().row(0), reference, prompt, flat); }) ==
        "calibrate_into: expected 4 numbers in the result, one for each reward, got 3");
}

namespace {
struct halved {
  int by;
  void check() const { detail::check_size("halved", "as its divisor", 2, by); }
  double operator()(Index below, Index, Index count) const {
    return static_cast<double>(below) / static_cast<double>(count * by);
  }
};
}  // namespace

TEST_CASE("A rank functor is checked when it is put to use, once for a batch or a functor") {
  const matrix<float> reference{{1, 2}}, rewards{{1.5f}};
  const std::string wrong = "halved: expected 2 as its divisor, got 3";
  matrix<float> result(1, 1);
  CHECK(error_of([&] { calibrate(reference, rewards, halved{3}); }) == wrong);
  CHECK(error_of([&] { calibrate(reference, std::vector<int>{0}, array<float>{{1.5f}}, halved{3}); }) == wrong);
  CHECK(error_of([&] { calibrate_into(result, reference, rewards, halved{3}); }) == wrong);
  CHECK(error_of([&] { calibration{reference, halved{3}}; }) == wrong);
  CHECK(calibrate(reference, rewards, halved{2})(0, 0) == 0.25f);
}

TEST_CASE("Prompt indices are anything with size() and [i] that gives integers") {
  const matrix<double> reference{{1, 2}, {3, 4}};
  const array<double> rewards{{1.5, 1.5, 3.5}};
  const array<double> expected{{0.5, 0, 0.5}};
  CHECK(same(calibrate(reference, std::vector<bool>{false, true, true}, rewards), expected));
  CHECK(same(calibrate(reference, std::vector<char>{0, 1, 1}, rewards), expected));
  CHECK(same(calibrate(reference, std::array<unsigned long long, 3>{0, 1, 1}, rewards), expected));
  CHECK(same(calibrate(reference, Eigen::Array<short, 3, 1>(0, 1, 1), rewards), expected));
  STATIC_REQUIRE_FALSE(prompt_index<std::vector<float>>);
}

TEMPLATE_TEST_CASE("The rewards of a flat batch may be a std::vector or a std::span", "", float, double) {
  using S = TestType;
  const matrix<S> reference{{1, 2, 3, 4}, {10, 20, 30, 40}};
  const std::vector<int> prompt{1, 0, 1};
  const std::vector<S> rewards{25, 4, 5};  // below 2 of 4; below 3, tied 1; below none
  const array<S> expected{{S(0.5), S(0.875), 0}};
  const std::span<const S> view(rewards);
  CHECK(same(calibrate(reference, prompt, rewards), expected));
  CHECK(same(calibrate(reference, prompt, view, mid_rank{}, unscored::propagate), expected));
  CHECK(same(calibration{reference}(prompt, view), expected));
  array<S> result(3);
  calibrate_into(result, reference, prompt, rewards);
  CHECK(same(result, expected));
  result.setZero();
  calibration{reference}.into(result, prompt, view);
  CHECK(same(result, expected));
  std::vector<S> own = rewards;  // in place
  calibrate_into(Eigen::Map<array<S>>(own.data(), 3), reference, prompt, own);
  CHECK(own == std::vector<S>{S(0.5), S(0.875), 0});
  CHECK(error_of([&] {
          calibrate(reference, prompt, std::vector<S>{1, missing<S>, 2});
        }) == "calibrate: expected rewards that are numbers, got NaN at index 1");
}
