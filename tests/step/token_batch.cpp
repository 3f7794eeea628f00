// SPDX-License-Identifier: MIT
#include <infalign/step/token_batch.hpp>

#include "catch.hpp"

#include <numeric>
#include <vector>

using namespace infalign;

namespace {

template <class T>
using row_major = Eigen::Array<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// 3 × 4 of 0, 1, 2, … by rows.
matrix<double> counted() {
  return matrix<double>::NullaryExpr(3, 4,
                                     [](Eigen::Index i, Eigen::Index j) { return static_cast<double>(4 * i + j); });
}

/// True if a view, read by row(), has the coefficients of an Eigen object, read by (i, j).
template <class T, class E>
bool equal(const matrix_view<T>& view, const E& e) {
  bool same = view.rows() == e.rows() && view.cols() == e.cols() && view.given();
  for (Eigen::Index i = 0; same && i < e.rows(); ++i)
    for (Eigen::Index j = 0; j < e.cols(); ++j) same = same && view.row(i)[j] == e(i, j);
  return same;
}

template <class T, class E>
concept viewable = std::is_constructible_v<matrix_view<T>, E>;

}  // namespace

TEST_CASE("A view reads the caller's buffer without a copy") {
  matrix<double> m = counted();
  const matrix_view<double> view = m;
  CHECK(equal(view, m));
  CHECK(view.row(0) == m.data());
  m(2, 3) = -7;
  CHECK(view.row(2)[3] == -7);
  const Eigen::Matrix<double, 3, 4, Eigen::RowMajor> of_matrix_kind = m.matrix();
  CHECK(equal(matrix_view<double>(of_matrix_kind), m));
}

TEST_CASE("A default view is empty and not given") {
  const matrix_view<float> none;
  CHECK_FALSE(none.given());
  CHECK(none.rows() == 0);
  CHECK(none.cols() == 0);
  CHECK_FALSE(token_batch<float>{}.mask.given());
  CHECK(token_batch<float>{}.sampler_weight_cap == 2);
}

TEST_CASE("A map, a map with a stride and a pointer can be viewed") {
  std::vector<double> buffer(24);
  std::iota(buffer.begin(), buffer.end(), 0.0);
  using map = Eigen::Map<const matrix<double>, 0, Eigen::OuterStride<>>;
  const Eigen::Map<const matrix<double>> packed(buffer.data(), 3, 4);
  const map strided(buffer.data(), 3, 4, Eigen::OuterStride<>(7));  // rows of 4 in a buffer 7 wide
  CHECK(equal(matrix_view<double>(packed), packed));
  CHECK(equal(matrix_view<double>(Eigen::Map<matrix<double>>(buffer.data(), 3, 4)), packed));
  CHECK(equal(matrix_view<double>(strided), strided));
  CHECK(matrix_view<double>(strided).row(2)[1] == 15);
  CHECK(matrix_view<double>(strided).stride() == 7);
  CHECK(equal(matrix_view<double>(buffer.data(), 3, 4, 7), strided));
}

TEST_CASE("Blocks of rows, of columns and of both can be viewed") {
  const matrix<double> m = counted();
  CHECK(equal(matrix_view<double>(m.middleRows(1, 2)), m.middleRows(1, 2)));
  CHECK(equal(matrix_view<double>(m.middleCols(1, 2)), m.middleCols(1, 2)));
  CHECK(equal(matrix_view<double>(m.block(1, 2, 2, 2)), m.block(1, 2, 2, 2)));
  CHECK(matrix_view<double>(m.block(1, 2, 2, 2)).row(1)[1] == 11);
  CHECK(equal(matrix_view<double>(m.row(1)), m.row(1)));
  const Eigen::Ref<const matrix<double>> ref = m;
  CHECK(matrix_view<double>(ref).row(0) == m.data());
}

TEST_CASE("A column is a batch of responses of one token, at any distance from each other") {
  const matrix<double> m = counted();
  const Eigen::ArrayXXd by_columns = m;
  const array<double> column = m.col(2);
  const Eigen::Map<const array<double>, 0, Eigen::InnerStride<>> spread(m.data(), 3, Eigen::InnerStride<>(5));
  CHECK(equal(matrix_view<double>(column), column));
  CHECK(equal(matrix_view<double>(m.col(2)), column));
  CHECK(equal(matrix_view<double>(by_columns.col(2)), column));
  CHECK(equal(matrix_view<double>(spread), array<double>{{0, 5, 10}}));
}

TEST_CASE("Rows that are not contiguous are rejected") {
  const matrix<double> m = counted();
  const Eigen::ArrayXXd by_columns = m;
  using map = Eigen::Map<const matrix<double>, 0, Eigen::Stride<Eigen::Dynamic, Eigen::Dynamic>>;
  const map every_other(m.data(), 3, 2, {4, 2});
  CHECK(error_of([&] { matrix_view<double>{every_other}; }) ==
        "matrix_view: expected rows contiguous in memory, got an inner stride of 2");
  CHECK(error_of([&] { matrix_view<double>{by_columns.row(1)}; }) ==
        "matrix_view: expected rows contiguous in memory, got an inner stride of 3");
}

TEST_CASE("A temporary does not convert to a view") {
  CHECK(viewable<double, matrix<double>&>);
  CHECK(viewable<double, const matrix<double>&>);
  CHECK_FALSE(viewable<double, matrix<double>>);
  CHECK_FALSE(viewable<double, const matrix<double>>);
  CHECK_FALSE(viewable<double, Eigen::ArrayXd>);
}

TEST_CASE("A mask may have any scalar type") {
  const row_major<bool> bits{{true, false}, {true, true}};
  const row_major<unsigned char> bytes{{1, 0}, {1, 1}};
  const row_major<int> numbers{{1, 0}, {1, 1}};
  const matrix<float> now{{-1, -2}, {-3, -4}};
  CHECK(equal(token_batch<float, bool>{.log_probabilities = now, .mask = bits}.mask, bits));
  CHECK(equal(token_batch<float, unsigned char>{.log_probabilities = now, .mask = bytes}.mask, bytes));
  CHECK(equal(token_batch<float, int>{.log_probabilities = now, .mask = numbers}.mask, numbers));
}

TEST_CASE("A view needs a pointer and sizes") {
  CHECK(error_of([] { matrix_view<float>(nullptr, 2, 3, 3); }) ==
        "matrix_view: expected a pointer to numbers, got null for 2 x 3");
  CHECK(error_of([] { matrix_view<float>(nullptr, -1, 3, 3); }) ==
        "matrix_view: expected sizes of at least 0, got -1 x 3");
  CHECK(error_of([] { matrix_view<float>(nullptr, 2, -3, 3); }) ==
        "matrix_view: expected sizes of at least 0, got 2 x -3");
  CHECK(matrix_view<float>(nullptr, 2, 0, 3).given());
  CHECK(matrix_view<float>(nullptr, 0, 3, 3).given());
}
