// SPDX-License-Identifier: MIT
#include <infalign/detail/eigen.hpp>

#include "arrays.hpp"

#include <span>
#include <string>
#include <vector>

using namespace infalign;
using Eigen::Index;

TEST_CASE("A position is an index, or a row and a column") {
  CHECK(detail::position_in(5, 0) == " at index 5");
  CHECK(detail::position_in(5, 3) == " at row 1, column 2");
  CHECK(detail::position_in(6, 3) == " at row 2, column 0");
}

TEMPLATE_TEST_CASE("The first NaN among rewards is reported with its position, unless NaN is propagated", "", float,
                   double) {
  const std::vector<TestType> rewards{1, INFINITY, missing<TestType>, -INFINITY, missing<TestType>};
  const auto check = [&](Index columns, unscored on_unscored) {
    return error_of([&] { detail::check_scored("f", rewards.data(), 5, columns, on_unscored); });
  };
  CHECK(check(0, unscored::error) == "f: expected rewards that are numbers, got NaN at index 2");
  CHECK(check(2, unscored::error) == "f: expected rewards that are numbers, got NaN at row 1, column 0");
  CHECK(check(0, unscored::propagate) == "no error");
  CHECK(error_of([&] { detail::check_scored("f", rewards.data(), 2, 0, unscored::error); }) == "no error");
}

TEMPLATE_TEST_CASE("Any Eigen expression is evaluated in row-major order, a vector to a column", "", float, double) {
  using S = TestType;
  const Eigen::Matrix<S, 2, 3> by_columns{{1, 2, 3}, {4, 5, 6}};
  const matrix<S> by_rows{{1, 2, 3}, {4, 5, 6}};
  const auto same = [&](const auto& e) {
    const auto result = detail::evaluated(e);
    STATIC_REQUIRE(std::is_same_v<decltype(result), const matrix<S>>);
    for (Index i = 0; i < 6; ++i) CHECK(result.data()[i] == static_cast<S>(i + 1));
  };
  same(by_columns);
  same(by_columns.array());
  same(by_rows);
  same(by_rows.matrix());
  same(by_rows.transpose().transpose());
  same(by_rows + S{0} * by_rows);

  const auto same_column = [&](const auto& e) {
    const auto result = detail::evaluated(e);
    STATIC_REQUIRE(std::is_same_v<decltype(result), const array<S>>);
    REQUIRE(result.size() == 3);
    for (Index i = 0; i < 3; ++i) CHECK(result[i] == static_cast<S>(i + 4));
  };
  same_column(by_columns.row(1));
  same_column(by_columns.row(1).transpose());
  same_column(by_rows.row(1));
  same_column(array<S>(by_rows.row(1).transpose()));
  same_column(by_columns.row(0) + Eigen::Matrix<S, 1, 3>::Constant(3));
  const std::vector<S> strided{4, 0, 5, 0, 6};
  same_column(Eigen::Map<const array<S>, 0, Eigen::InnerStride<>>(strided.data(), 3, Eigen::InnerStride<>(2)));
}

TEMPLATE_TEST_CASE("A range is viewed as a column, in its own memory", "", float, double) {
  using S = TestType;
  const std::vector<S> numbers{1, 2, 4};
  const auto column = detail::as_column(numbers);
  STATIC_REQUIRE(std::is_same_v<std::remove_cvref_t<decltype(column)>, Eigen::Map<const array<S>>>);
  CHECK(column.data() == numbers.data());
  CHECK(column.size() == 3);
  CHECK(detail::as_column(std::span<const S>(numbers).subspan(1)).data() == &numbers[1]);
  CHECK(detail::as_column(std::vector<S>{}).size() == 0);
}
