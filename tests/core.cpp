// SPDX-License-Identifier: MIT
#include "catch.hpp"

#include <infalign/core.hpp>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

using namespace infalign;
using Eigen::Index;

// IEEE 754: sign, exponent, fraction. NaN has all exponent bits set and a fraction that is not 0, infinity one that is.
TEMPLATE_TEST_CASE("NaN, infinity and numbers are told apart for every exponent and sign", "", float, double) {
  using bits = detail::bits_of<TestType>;
  constexpr int fraction_bits = std::numeric_limits<TestType>::digits - 1;
  constexpr bits top = bits{1} << (fraction_bits - 1), all = (bits{1} << fraction_bits) - 1;
  constexpr bits exponents = bits{1} << (std::numeric_limits<bits>::digits - fraction_bits - 1);
  int nans = 0, infinities = 0, wrong = 0;
  for (bits sign : {bits{0}, bits{1}})
    for (bits exponent = 0; exponent < exponents; ++exponent)
      for (bits fraction : {bits{0}, bits{1}, bits{2}, bits{12345}, top - 1, top, top + 1, all - 1, all}) {
        const auto pattern = sign << (std::numeric_limits<bits>::digits - 1) | exponent << fraction_bits | fraction;
        const auto x = std::bit_cast<TestType>(static_cast<bits>(pattern));
        wrong += detail::is_nan(x) != std::isnan(x);
        wrong += detail::is_finite(x) != std::isfinite(x);
        nans += std::isnan(x);
        infinities += std::isinf(x);
      }
  CHECK(wrong == 0);
  CHECK(nans == 2 * 8);
  CHECK(infinities == 2);
  STATIC_REQUIRE(detail::is_nan(detail::nan<TestType>));
  CHECK(std::isnan(detail::nan<TestType>));
  STATIC_REQUIRE(!detail::is_nan(std::numeric_limits<TestType>::infinity()));
  STATIC_REQUIRE(!detail::is_finite(-std::numeric_limits<TestType>::infinity()));
}

TEST_CASE("Messages show strings and numbers one after another") {
  const double infinity = std::numeric_limits<double>::infinity();
  CHECK(detail::text("a", std::string("b"), 3, Index{-4}, std::size_t{5}) == "ab3-45");
  CHECK(detail::text(0.5, " ", 0.25f, " ", -0.0) == "0.5 0.25 -0");
  CHECK(detail::text(infinity, " ", -infinity, " ", std::nan("")) == "inf -inf NaN");
  CHECK(detail::text(-std::numeric_limits<float>::quiet_NaN()) == "NaN");
  CHECK(detail::text(1e-300, " ", -1.5e300) == "1e-300 -1.5e+300");
  CHECK(detail::text(std::numeric_limits<Index>::min()) == "-9223372036854775808");
}

TEST_CASE("Places are named by index, or by row and column") {
  CHECK(detail::place(5, 0) == " at index 5");
  CHECK(detail::place(5, 3) == " at row 1, column 2");
  CHECK(detail::place(6, 3) == " at row 2, column 0");
}

TEST_CASE("One error policy: the function, what it expected, what it got and where") {
  CHECK(error_of([] { detail::fail("f", "X", "Y"); }) == "f: expected X, got Y");
  CHECK(error_of([] { detail::check_size("f", "rewards", 3, 4); }) == "f: expected 3 rewards, got 4");
  CHECK(error_of([] { detail::check_size("f", "rewards", 3, 3); }) == "no error");
  for (const auto& [x, shown] :
       {std::pair{0.0, "0"}, {-0.0, "-0"}, {-2.0, "-2"}, {std::nan(""), "NaN"}, {INFINITY, "inf"}})
    CHECK(error_of([x = x] { detail::check_positive("f", "beta", x); }) ==
          "f: expected beta finite and above 0, got " + std::string(shown));
  CHECK(error_of([] { detail::check_positive("f", "beta", std::numeric_limits<double>::denorm_min()); }) == "no error");
}

TEMPLATE_TEST_CASE("The first NaN among rewards is named, unless NaN is carried", "", float, double) {
  const TestType missing = std::numeric_limits<TestType>::quiet_NaN();
  const std::vector<TestType> rewards{1, INFINITY, missing, -INFINITY, missing};
  const auto check = [&](Index columns, unscored policy) {
    return error_of([&] { detail::check_scored("f", rewards.data(), 5, columns, policy); });
  };
  CHECK(check(0, unscored::error) == "f: expected rewards that are numbers, got NaN at index 2");
  CHECK(check(2, unscored::error) == "f: expected rewards that are numbers, got NaN at row 1, column 0");
  CHECK(check(0, unscored::carry) == "no error");
  CHECK(error_of([&] { detail::check_scored("f", rewards.data(), 2, 0, unscored::error); }) == "no error");
}

TEMPLATE_TEST_CASE("Any Eigen expression is evaluated row by row, a vector to a column", "", float, double) {
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

TEST_CASE("The concepts take Eigen's floats and doubles, and integer indices") {
  STATIC_REQUIRE(real_scalar<float> && real_scalar<double>);
  STATIC_REQUIRE(!real_scalar<int> && !real_scalar<long double>);
  STATIC_REQUIRE(array_expression<Eigen::MatrixXf> && array_expression<Eigen::Map<const array<double>>>);
  STATIC_REQUIRE(!array_expression<Eigen::ArrayXi> && !array_expression<std::vector<float>>);
  STATIC_REQUIRE(vector_expression<Eigen::VectorXd> && vector_expression<Eigen::RowVectorXf>);
  STATIC_REQUIRE(!vector_expression<matrix<float>>);
  STATIC_REQUIRE(prompt_index<std::vector<int>> && prompt_index<std::vector<std::size_t>>);
  STATIC_REQUIRE(prompt_index<Eigen::ArrayXi> && prompt_index<Eigen::Map<const Eigen::ArrayXi>>);
  STATIC_REQUIRE(!prompt_index<std::vector<float>> && !prompt_index<Eigen::ArrayXf> && !prompt_index<int>);
}
