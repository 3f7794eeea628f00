// SPDX-License-Identifier: MIT
#include <infalign/core.hpp>

#include "catch.hpp"

#include <array>
#include <span>
#include <vector>

using namespace infalign;

TEST_CASE("The concepts accept floats and doubles of Eigen, and integer indices") {
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

TEST_CASE("A number list is a row, a column, or a range of floats or doubles") {
  STATIC_REQUIRE(number_range<std::vector<float>> && number_range<std::span<const double>>);
  STATIC_REQUIRE(number_range<std::array<float, 3>>);
  STATIC_REQUIRE(!number_range<array<float>> && !number_range<Eigen::Map<const array<double>>>);
  STATIC_REQUIRE(!number_range<std::vector<int>> && !number_range<std::vector<bool>> && !number_range<double>);
  STATIC_REQUIRE(number_list<array<float>> && number_list<Eigen::RowVectorXd> && number_list<std::span<float>>);
  STATIC_REQUIRE(!number_list<matrix<float>> && !number_list<std::vector<int>>);
}
