// SPDX-License-Identifier: MIT
// Compiled with -ffast-math, which lets a compiler assume that there is no NaN and no infinity. The library works with both.
#include "catch.hpp"

#include <infalign/infalign.hpp>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

using namespace infalign;
using Eigen::Index;

namespace {

/// A number with these bits, read from memory, so that the compiler does not know its value.
template <class S>
S with_bits(detail::bits_of<S> pattern) {
  volatile auto hidden = pattern;
  const auto bits = hidden;
  S x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}

template <class S>
constexpr int fraction_bits = std::numeric_limits<S>::digits - 1;
template <class S>
constexpr detail::bits_of<S> infinity_bits = (~detail::bits_of<S>{0} >> 1) >> fraction_bits<S> << fraction_bits<S>;
template <class S>
constexpr detail::bits_of<S> sign_bit = ~(~detail::bits_of<S>{0} >> 1);

/// Writes a NaN, of either sign and with one more bit or none: the k-th of six.
template <class S>
void put_nan(S& x, unsigned k = 0) {
  const auto fraction = detail::bits_of<S>{1} << (fraction_bits<S> - 1 - static_cast<int>(k / 2 % 3));
  const auto bits =
      infinity_bits<S> | detail::bits_of<S>{1} << (fraction_bits<S> - 1) | fraction | (k % 2) * sign_bit<S>;
  std::memcpy(&x, &bits, sizeof x);
}

/// NaN by its bits. By reference, because with the flag a NaN passed by value is undefined.
template <class S>
bool is_none(const S& x) {
  detail::bits_of<S> bits;
  std::memcpy(&bits, &x, sizeof x);
  return (bits & ~sign_bit<S>) > infinity_bits<S>;
}

/// Equal up to rounding, which the flag changes too, and NaN at the same positions.
template <class A, class B>
bool close(const A& a, const B& b) {
  if (a.rows() != b.rows() || a.cols() != b.cols()) return false;
  for (Index i = 0; i < a.size(); ++i) {
    const bool none = is_none(a.data()[i]);
    if (none != is_none(b.data()[i])) return false;
    if (!none && std::abs(a.data()[i] - b.data()[i]) > 4 * std::numeric_limits<typename A::Scalar>::epsilon())
      return false;
  }
  return true;
}

}  // namespace

TEMPLATE_TEST_CASE("-ffast-math: NaN, infinities and finite numbers are distinguished", "", float, double) {
  using S = TestType;
  const auto check = [](const S& x, bool nan, bool finite) {
    CHECK(detail::is_nan(x) == nan);
    CHECK(detail::is_finite(x) == finite);
  };
  for (unsigned k = 0; k < 6; ++k) {
    S x;
    put_nan(x, k);
    check(x, true, false);
    CHECK(detail::concat(x) == "NaN");
  }
  check(with_bits<S>(infinity_bits<S>), false, false);
  check(with_bits<S>(infinity_bits<S> | sign_bit<S>), false, false);
  check(with_bits<S>(infinity_bits<S> + 1), true, false);
  check(with_bits<S>(infinity_bits<S> - 1), false, true);
  check(with_bits<S>(sign_bit<S>), false, true);
  CHECK(is_none(detail::nan<S>));
}

TEMPLATE_TEST_CASE("-ffast-math: a NaN is found and its position reported", "", float, double) {
  using S = TestType;
  const matrix<S> whole{{1, 2, 3}, {4, 5, 6}}, half = matrix<S>::Constant(2, 3, S(0.5));
  const array<S> flat{{1, 2, 3}};
  const std::vector<int> prompt{0, 0, 0};
  matrix<S> broken = whole, broken_half = half;
  array<S> broken_flat = flat;
  put_nan(broken(1, 0), 1);
  put_nan(broken_half(0, 2));
  put_nan(broken_flat[2]);
  const std::string numbers = ": expected rewards that are numbers, got NaN at ";
  CHECK(error_of([&] { calibrate(whole, broken); }) == "calibrate" + numbers + "row 1, column 0");
  CHECK(error_of([&] { calibrate(whole, prompt, broken_flat); }) == "calibrate" + numbers + "index 2");
  CHECK(error_of([&] { calibrate(broken, whole); }) ==
        "calibrate: expected reference rewards that are numbers, got NaN at row 1, column 0");
  CHECK(error_of([&] { calibration{broken}; }) ==
        "calibration: expected reference rewards that are numbers, got NaN at row 1, column 0");
  CHECK(error_of([&] { calibrate_leave_one_out(broken); }) == "calibrate_leave_one_out" + numbers + "row 1, column 0");
  CHECK(error_of([&] { transform(broken_half, identity{}); }) == "transform" + numbers + "row 0, column 2");
  CHECK(error_of([&] { advantage(broken, group_mean{}); }) == "advantage" + numbers + "row 1, column 0");
  CHECK(error_of([&] { advantage(prompt, broken_flat, max_at_n{2}); }) == "advantage" + numbers + "index 2");
  const array<double> third = array<double>::Constant(3, 1. / 3);
  CHECK(error_of([&] { exact_win_rate(broken_flat, third, third, best_of{2}); }) ==
        "exact_win_rate" + numbers + "index 2");
  CHECK(error_of([&] { exact_win_rate(flat, third, broken_flat, best_of{2}); }) ==
        "exact_win_rate: expected reference probabilities of at least 0, got NaN at index 2");
}

TEMPLATE_TEST_CASE("-ffast-math: NaN that is propagated is left out of every count, at any position", "", float,
                   double) {
  using S = TestType;
  std::mt19937 random(1);
  int wrong = 0;
  for (Index K = 2; K <= 70; ++K)
    for (unsigned repeat = 0; repeat < 20; ++repeat) {
      matrix<S> reference = matrix<S>::NullaryExpr(1, K, [&] { return static_cast<S>(random() % 5) - 2; });
      std::vector<std::vector<S>> scored(1);
      for (Index k = 0; k < K; ++k) {
        if (k > 0 && random() % (repeat % 2 ? 9 : 2) == 0)
          put_nan(reference(0, k), static_cast<unsigned>(random()));
        else
          scored[0].push_back(reference(0, k));
      }
      matrix<S> rewards{{-3, -2, -1, 0, 1, 2, 3}};
      const matrix<S> expected = calibrate(ragged(scored), rewards);
      wrong += !close(calibrate(reference, rewards, mid_rank{}, unscored::propagate), expected);
      const array<S> flat = rewards.row(0).transpose(), expected_flat = expected.row(0).transpose();
      wrong +=
          !close(calibrate(reference, std::vector<int>(7, 0), flat, mid_rank{}, unscored::propagate), expected_flat);
    }
  CHECK(wrong == 0);
}

TEMPLATE_TEST_CASE("-ffast-math: NaN is propagated through every stage, and does not affect the others", "", float,
                   double) {
  using S = TestType;
  matrix<S> rewards{{1, 0, 2, 6}, {0, 0, 0, 5}};
  for (Index i : {1, 4, 5, 6}) put_nan(rewards.data()[i], static_cast<unsigned>(i));
  S none;
  put_nan(none);
  const auto propagate = unscored::propagate;
  CHECK(close(calibrate_leave_one_out(rewards, mid_rank{}, propagate),
              matrix<S>{{0, none, 0.5, 1}, {none, none, none, none}}));
  CHECK(close(calibrate(matrix<S>{{1, 2}, {3, 6}}, rewards, mid_rank{}, propagate),
              matrix<S>{{0.25, none, 0.75, 1}, {none, none, none, 0.5}}));
  const auto shape = calibration{matrix<S>{{1, 2}, {3, 6}}, mid_rank{}, propagate} | power{2} | exponential{.t = 1};
  const matrix<S> shaped = shape(rewards);
  CHECK(shaped(0, 2) == near(std::exp(0.5625), 1e-6));
  for (Index i : {1, 4, 5, 6}) CHECK(is_none(shaped.data()[i]));

  for (Index n = 1; n <= 40; ++n)
    for (Index k = 0; k < n; ++k) {
      array<S> u = array<S>::LinSpaced(n, 0, 1);
      put_nan(u[k]);
      CHECK(close(transform(u, identity{}, propagate), u));
    }

  CHECK(close(advantage(rewards, group_mean{}, propagate), matrix<S>{{-2, 0, -1, 3}, {0, 0, 0, 0}}));
  CHECK(close(advantage(rewards, max_at_n{2}, propagate), matrix<S>{{0, 0, 1, 9}, {0, 0, 0, 0}}));
  CHECK(close(advantage(rewards, batch_mean{}, propagate), matrix<S>{{-2.5, 0, -1.5, 2.5}, {0, 0, 0, 1.5}}));
  CHECK(close(advantage(std::vector<int>{0, 0, 0, 1}, rewards.row(0), leave_one_out{}, propagate),
              array<S>{{-1, 0, 1, 0}}));
}

TEMPLATE_TEST_CASE("-ffast-math: infinities have the largest and the smallest rank, and are rejected elsewhere", "",
                   float, double) {
  using S = TestType;
  const S inf = with_bits<S>(infinity_bits<S>), minus = with_bits<S>(infinity_bits<S> | sign_bit<S>);
  const S most = std::numeric_limits<S>::max();
  for (Index K : {4, 8, 12, 64}) {  // a quarter each of −∞, a number twice, and ∞
    const array<S> four{{minus, 1, 1, inf}};
    const matrix<S> reference = four.transpose().replicate(1, K / 4);
    CHECK(close(calibrate(reference, matrix<S>{{minus, -most, 1, most, inf}}),
                matrix<S>{{0.125, 0.25, 0.5, 0.75, 0.875}}));
  }
  CHECK(close(calibrate_leave_one_out(matrix<S>{{minus, 0, inf}}), matrix<S>{{0, 0.5, 1}}));
  CHECK(error_of([&] {
          advantage(matrix<S>{{0, inf}}, group_mean{});
        }) == "advantage: expected finite rewards, got inf at row 0, column 1");
  CHECK(error_of([&] {
          transform(array<S>{{0, minus}}, identity{});
        }) == "transform: expected calibrated rewards in [0, 1], got -inf at index 1");
  CHECK(error_of([&] {
          transform(array<S>{{1, 0}}, logarithm{});
        }) == "transform: expected a finite value of the transform, got -inf for 0 at index 1");
}

TEMPLATE_TEST_CASE("-ffast-math: the exponentials have their sign and accuracy, one by one and many at a time", "",
                   float, double) {
  using S = TestType;
  const array<S> u = array<S>::LinSpaced(200, 0, 1);
  for (const double t : {1e-5, -1e-3, 0.02, -0.3, 0.3, 3., -9.7, 12.6}) {
    CAPTURE(t);
    const array<S> plain = transform(u, exponential{t}), normal = transform(u, normalized_exponential{t});
    for (Eigen::Index i = 0; i < u.size(); ++i) {
      const double x = static_cast<double>(u[i]), sign = t > 0 ? 1 : -1;
      const double rounding = (100 + 10 * std::abs(t)) * static_cast<double>(std::numeric_limits<S>::epsilon());
      CHECK(plain[i] == near(sign * std::exp(t * x), rounding * std::exp(t * x)));
      CHECK(exponential{t}(u[i]) == near(sign * std::exp(t * x), rounding * std::exp(t * x)));
      const double expected = std::expm1(t * x) / std::expm1(t);  // a small value may lose digits, but only below ε
      CHECK(normal[i] == near(expected, rounding));
    }
  }
}

TEST_CASE("-ffast-math: parameters that are NaN or infinite are rejected") {
  double none;
  put_nan(none);
  const double inf = with_bits<double>(infinity_bits<double>);
  const array<double> u{{0.5}};
  const auto transform_error = [&](const auto& phi) { return error_of([&] { transform(u, phi); }); };
  CHECK(transform_error(exponential{none}) == "exponential: expected t finite and not 0, got NaN");
  CHECK(transform_error(normalized_exponential{inf}) == "normalized_exponential: expected t finite, got inf");
  CHECK(transform_error(power{none}) == "power: expected an exponent finite and above 0, got NaN");
  tabulated table{.u = array<double>{{0, 0.5, 1}}, .value = array<double>{{0, 1, 2}}};
  put_nan(table.u[1]);
  CHECK(transform_error(table) == "tabulated: expected strictly increasing knots, got NaN at index 1");
  table = {.u = array<double>{{0, 0.5, 1}}, .value = array<double>{{0, 1, inf}}};
  CHECK(transform_error(table) == "tabulated: expected values within the range of double, got inf at index 2");
  CHECK(error_of([&] { win_probability{best_of_poisson{none}}; }) ==
        "best_of_poisson: expected lambda finite and at least 0, got NaN");
  CHECK(error_of([&] {
          advantage(matrix<double>{{1, 2}}, group_standardized{none});
        }) == "group_standardized: expected epsilon finite and at least 0, got NaN");
}

TEMPLATE_TEST_CASE("-ffast-math: the step finds a NaN log-probability, and an unscored response has gradient 0", "",
                   float, double) {
  using S = TestType;
  matrix<S> now = matrix<S>::Constant(4, 3, -1), reference = matrix<S>::Constant(4, 3, -2);
  matrix<S> rewards{{1, 3, 0, 2}};
  put_nan(rewards(0, 2));
  const token_batch<S> batch{.log_probabilities = now, .reference_log_probabilities = reference};
  const policy_gradient step{k1_in_reward{.beta = 0.5}, leave_one_out{}, reinforce{}, sequence_mean_of_token_sums{},
                             unscored::propagate};
  put_nan(now(2, 1));  // of the unscored response, which is not read
  const auto out = step(batch, rewards);
  // Rewards less the same KL: 1 3 2 less the mean of the other two, over 3 scored responses, negated.
  const matrix<S> expected = array<S>{{0.5, -0.5, 0, 0}}.replicate(1, 3);
  CHECK((out.gradient - expected).abs().maxCoeff() < 1e-6f);
  CHECK((out.gradient.row(2) == 0).all());

  matrix<S> mask = matrix<S>::Ones(4, 70), wide = matrix<S>::Constant(4, 70, -1);
  for (Index t : {3, 68}) {
    mask.setOnes();
    put_nan(mask(1, t));
    CHECK(error_of([&] {
            step(token_batch<S>{.log_probabilities = wide, .reference_log_probabilities = wide, .mask = mask}, rewards);
          }) == "policy_gradient: expected a mask of 0 and 1, got NaN at row 1, column " + std::to_string(t));
  }

  put_nan(now(3, 2));
  CHECK(error_of([&] { step(batch, rewards); }).find("NaN at row 3, column 2") != std::string::npos);
}

TEMPLATE_TEST_CASE("A prior takes an infinite weight, infinite rewards and NaN", "", float, double) {
  using S = TestType;
  matrix<S> reference{{1, 2, 3, 5}, {2, 4, 6, 7}, {0, 1, 4, 9}}, rewards{{2, 0}, {5, 3}, {8, 1}};
  reference(0, 0) = with_bits<S>(infinity_bits<S> | sign_bit<S>);
  put_nan(reference(2, 1));
  put_nan(rewards(1, 0));
  for (const auto model : {prior_model::pooled, prior_model::location, prior_model::location_scale}) {
    const calibration_prior prior(reference, model, static_cast<double>(with_bits<S>(infinity_bits<S>)),
                                  unscored::propagate);
    const auto u = calibrate(reference, prior, rewards, unscored::propagate);
    CHECK(detail::is_nan(u(1, 0)));
    for (const S x : {u(0, 0), u(0, 1), u(1, 1), u(2, 0), u(2, 1)}) {
      CHECK(detail::is_finite(x));
      CHECK(x >= 0);
      CHECK(x <= 1);
    }
    CHECK(u(0, 1) < u(0, 0));
    CHECK(error_of([&] { calibration_prior p(reference, model); }) ==
          "calibration_prior: expected reference rewards that are numbers, got NaN at row 2, column 1");
  }
}
