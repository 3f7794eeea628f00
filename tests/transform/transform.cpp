// SPDX-License-Identifier: MIT
#include <infalign/transform/transform.hpp>
#include <infalign/transform/transforms.hpp>

#include "arrays.hpp"

#include <cmath>
#include <span>
#include <string>
#include <vector>

using namespace infalign;
using Eigen::Index;

TEMPLATE_TEST_CASE("Rewards outside [0, 1] and values that are not finite are rejected", "", float, double) {
  using S = TestType;
  const auto error = [](const auto& u, const auto& phi) { return error_of([&] { transform(u, phi); }); };
  const std::string calibrated = "transform: expected calibrated rewards in [0, 1], got ";
  CHECK(error(array<S>{{0, -0.25, 2}}, identity{}) == calibrated + "-0.25 at index 1");
  CHECK(error(matrix<S>{{0, 1}, {1, 1.5}}, identity{}) == calibrated + "1.5 at row 1, column 1");
  CHECK(error(array<S>{{-INFINITY}}, identity{}) == calibrated + "-inf at index 0");
  CHECK(error(array<S>{{1 + epsilon<S>}}, identity{}) != "no error");
  CHECK(error(array<S>{{0.5, missing<S>}}, identity{}) ==
        "transform: expected rewards that are numbers, got NaN at index 1");
  CHECK(error(matrix<S>{{0.5, 0}}, logarithm{}) ==
        "transform: expected a finite value of the transform, got -inf for 0 at row 0, column 1");
  CHECK(error(array<S>{{1, 0.5}}, [](auto u) { return u < 1 ? u / 0 : u; }) ==
        "transform: expected a finite value of the transform, got inf for 0.5 at index 1");
  CHECK(error(array<S>{{0.25}}, [](auto) { return missing<S>; }) ==
        "transform: expected a finite value of the transform, got NaN for 0.25 at index 0");
}

TEMPLATE_TEST_CASE("A matrix or a row gives a matrix, a column gives a column, and NaN is propagated on request", "",
                   float, double) {
  using S = TestType;
  const S none = missing<S>;
  const auto square = [](auto u) { return u * u; };
  const Eigen::Matrix<S, 2, 3> by_columns{{0, 0.5, 1}, {0.25, 0.75, 1}};
  const matrix<S> expected{{0, 0.25, 1}, {0.0625, 0.5625, 1}};
  CHECK(same(transform(by_columns, square), expected));
  CHECK(same(transform(by_columns.array() + S{0}, square), expected));
  CHECK(same(transform(by_columns.transpose(), square), expected.transpose()));
  const auto row = transform(by_columns.row(1), square);
  const auto column = transform(by_columns.col(1).tail(1), square);
  STATIC_REQUIRE(std::is_same_v<decltype(row), const matrix<S>>);    // 1 x M
  STATIC_REQUIRE(std::is_same_v<decltype(column), const array<S>>);  // P x 1
  CHECK(same(row, expected.row(1)));
  CHECK(same(column, array<S>{{0.5625}}));
  CHECK(same(transform(matrix<S>(0, 3), square), matrix<S>(0, 3)));
  CHECK(same(transform(matrix<S>{{0.5, none}, {none, 1}}, square, unscored::propagate),
             matrix<S>{{0.25, none}, {none, 1}}));
  CHECK(same(transform(array<S>{{none, 0.5}}, square, unscored::propagate), array<S>{{none, 0.25}}));
  CHECK(same(transform(array<S>{{0, 1}}, [](S u) { return u > 0 ? 7 : 3; }), array<S>{{3, 7}}));
}

TEMPLATE_TEST_CASE("Results are written to the caller's buffer, also in place", "", float, double) {
  using S = TestType;
  const auto check = [](const auto& phi) {
    for (Index n : {0, 1, 15, 16, 63, 64, 65, 200}) {
      const array<S> u = (array<S>::Random(n) + 1) / 2;
      array<S> one_by_one(n), result(n);
      for (Index i = 0; i < n; ++i) one_by_one[i] = phi(u[i]);
      transform_into(result, u, phi);
      CHECK(same(result, one_by_one));  // the bits do not depend on the position in the batch
      CHECK(same(transform(u, phi), one_by_one));
      result = u;
      transform_into(result, result, phi);
      CHECK(same(result, one_by_one));
      if (n % 5 > 0) continue;
      const matrix<S> square = u.reshaped(n / 5, 5);
      matrix<S> out(n / 5, 5);
      transform_into(out, square, phi);
      CHECK(same(out, transform(square, phi)));
      transform_into(Eigen::Map<matrix<S>>(result.data(), n / 5, 5), (square + S{0}).matrix(), phi);
      CHECK(same(result, transform(Eigen::Map<const array<S>>(square.data(), n), phi)));
    }
  };
  check(exponential{10});
  check(exponential{-10});
  check(normalized_exponential{10});
  check(power{3});
  check([](S u) { return u * u; });
  array<S> three(3);
  CHECK(error_of([&] { transform_into(three, array<S>::Zero(4), identity{}); }) ==
        "transform_into: expected a result of 4 x 1, got 3 x 1");
}

// One wrong number among many that are transformed together.
TEMPLATE_TEST_CASE("A wrong number is found at any position of a batch", "", float, double) {
  using S = TestType;
  const S nan = missing<S>, inf = infinity<S>;
  const exponential phi{10};
  for (Index i = 0; i < 150; ++i) {
    array<S> u = array<S>::Constant(150, S(0.25));
    const auto error = [&](S x) {
      u[i] = x;
      return error_of([&] { transform(u, phi); });
    };
    const std::string at = " at index " + std::to_string(i),
                      range = "transform: expected calibrated rewards in [0, 1], got ";
    CHECK(error(nan) == "transform: expected rewards that are numbers, got NaN" + at);
    CHECK(error(S(1.5)) == range + "1.5" + at);
    CHECK(error(S(-0.5)) == range + "-0.5" + at);
    CHECK(error(inf) == range + "inf" + at);
    CHECK(error(-inf) == range + "-inf" + at);
    CHECK(error(1) == "no error");
    u[i] = nan;
    const array<S> propagated = transform(u, phi, unscored::propagate);
    CHECK(std::isnan(propagated[i]));
    CHECK(propagated[(i + 1) % 150] == phi(S(0.25)));
  }
}

TEMPLATE_TEST_CASE("Results are written to a block of rows, and nothing beside it changes", "", float, double) {
  using S = TestType;
  for (Index columns : {3, 64, 100}) {
    const matrix<S> u = (matrix<S>::Random(4, columns) + 1) / 2;
    const exponential phi{3};
    const matrix<S> expected = transform(u, phi);
    surrounded<S> buffer(4, columns);
    transform_into(buffer.block(), u, phi);
    CHECK(same(buffer.block(), expected));
    buffer.block() = u;
    transform_into(buffer.block(), buffer.block(), phi);  // in place
    CHECK(same(buffer.block(), expected));
    transform_into(buffer.block(), u.matrix() * S{1}, phi);
    CHECK(same(buffer.block(), expected));
    buffer.block() = u;
    CHECK(same(transform(buffer.block(), phi), expected));
    transform_into(buffer.block().col(1), u.col(0), phi);  // a column of a matrix
    CHECK(same(buffer.block().col(1), expected.col(0)));
    transform_into(buffer.block().row(2), u.row(1), phi);
    CHECK(same(buffer.block().row(2), expected.row(1)));
    CHECK(buffer.rest_unchanged());
    CHECK(error_of([&] { transform_into(buffer.block(), u.topRows(3), phi); }) ==
          "transform_into: expected a result of 3 x " + std::to_string(columns) + ", got 4 x " +
              std::to_string(columns));
  }
}

TEMPLATE_TEST_CASE("A transform is checked when it is put to use, also if there are no rewards", "", float, double) {
  using S = TestType;
  const std::string wrong = "exponential: expected t finite and not 0, got 0";
  array<S> result(0);
  CHECK(error_of([&] { transform(array<S>(0), exponential{0}); }) == wrong);
  CHECK(error_of([&] { transform_into(result, array<S>(0), exponential{0}); }) == wrong);
  CHECK(error_of([&] { transform(array<S>{{1}}, identity{} | exponential{0}); }) == wrong);
  CHECK(error_of([] { exponential{0}(S(0.5)); }) == "no error");  // a single call does not check
}

namespace {
/// u², prepared for many numbers unless `fits` is false. Values of one number are marked by a sign.
struct square {
  bool fits = true;
  template <real_scalar S>
  S operator()(S u) const {
    return -u * u;
  }
  template <real_scalar S>
  auto prepare(S) const {
    struct function {
      bool fits;
      S operator()(S u) const { return u * u; }
    };
    return function{fits};
  }
};
}  // namespace

TEMPLATE_TEST_CASE("A user's transform may prepare a function of many numbers, used if it fits and they are in [0, 1]",
                   "", float, double) {
  using S = TestType;
  constexpr Index N = 256 / sizeof(S);
  array<S> u = array<S>::LinSpaced(2 * N + 1, 0, 1);
  const array<S> squares = u * u;
  array<S> y = transform(u, square{});
  CHECK(same(y.head(2 * N), squares.head(2 * N)));
  CHECK(y[2 * N] == -1);  // the rest, one by one
  CHECK(same(transform(u, square{.fits = false}), -squares));
  u[N] = missing<S>;
  y = transform(u, square{}, unscored::propagate);
  CHECK(same(y.head(N), squares.head(N)));
  CHECK(std::isnan(y[N]));
  CHECK(same(y.tail(N), -squares.tail(N)));
}

TEMPLATE_TEST_CASE("A std::vector or a std::span is transformed to a column", "", float, double) {
  using S = TestType;
  const std::vector<S> u{0, S(0.5), 1, missing<S>};
  const auto half = [](auto x) { return x / 2; };
  const array<S> expected{{0, S(0.25), S(0.5), missing<S>}};
  CHECK(same(transform(u, half, unscored::propagate), expected));
  CHECK(same(transform(std::span<const S>(u).first(3), half), expected.head(3)));
  array<S> result(4);
  transform_into(result, std::span<const S>(u), half, unscored::propagate);
  CHECK(same(result, expected));
  CHECK(error_of([&] { transform(u, half); }) == "transform: expected rewards that are numbers, got NaN at index 3");
  CHECK(error_of([&] {
          transform(std::vector<S>{0, 2}, half);
        }) == "transform: expected calibrated rewards in [0, 1], got 2 at index 1");
}
