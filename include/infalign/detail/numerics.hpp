// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/detail/floating_point.hpp>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <optional>
#include <utility>

#include <infalign/detail/begin.hpp>

/// \file
/// Numerical methods for smooth functions of one variable: a root, a minimum, a derivative, an integral, an
/// initial-value problem. They are here so that the library needs no other one.
namespace INFALIGN_NAMESPACE::detail {

/// Two points and the values of a function there.
struct bracketed {
  double a, b, fa, fb;
};

/// Walks from x to next(x, f(x)), and on from there, until f changes sign. Returns the last two points of the walk.
///
/// Without a change of sign the walk ends if next returns its own argument, or after 200 steps. If f is NaN at the next
/// point, this step and all later ones are halved, at most 10 times.
template <class F, class Next>
bracketed bracket(const F& f, double x, const Next& next) {
  const double fx = f(x);
  bracketed last{x, x, fx, fx};
  double share = 1;
  for (int i = 0; i < 200 && share > 1e-3 && last.fa * last.fb > 0; ++i) {
    const double to = last.b + share * (next(last.b, last.fb) - last.b);
    if (to == last.b) break;
    const double at_to = f(to);
    if (is_nan(at_to))
      share /= 2;
    else
      last = {last.b, to, last.fb, at_to};
  }
  return last;
}

/// A root of f between two points, to a relative `tolerance` in x; nullopt unless f(a) and f(b) differ in sign. Steps are
/// inverse quadratic interpolations if these are safe, else bisections.
///
/// Source: T. R. Chandrupatla, Advances in Engineering Software 28, 1997.
template <class F>
std::optional<double> find_root(const F& f, const bracketed& ends, double tolerance) {
  auto [x1, x2, f1, f2] = ends;
  double t = 0.5;
  if (f1 == 0) return x1;
  if (f2 == 0) return x2;
  if (!((f1 < 0 && f2 > 0) || (f1 > 0 && f2 < 0))) return std::nullopt;  // NaN too
  double x3 = x1, f3 = f1;
  for (int i = 0; i < 200; ++i) {
    const double x = x1 + t * (x2 - x1), fx = f(x);
    if ((fx < 0) == (f1 < 0)) {
      x3 = std::exchange(x1, x);
      f3 = std::exchange(f1, fx);
    } else {
      x3 = std::exchange(x2, std::exchange(x1, x));
      f3 = std::exchange(f2, std::exchange(f1, fx));
    }
    const bool first = std::abs(f1) < std::abs(f2);
    const double best = first ? x1 : x2;
    const double limit = std::max(tolerance, 4e-16) * std::max(std::abs(best), 1e-300) / std::abs(x2 - x1);
    if (limit > 0.5 || f1 == 0 || f2 == 0) return best;
    const double xi = (x1 - x2) / (x3 - x2), phi = (f1 - f2) / (f3 - f2);
    t = 0.5;
    if (phi * phi < xi && (1 - phi) * (1 - phi) < 1 - xi)
      t = f1 / (f2 - f1) * (f3 / (f2 - f3)) + (x3 - x1) / (x2 - x1) * (f1 / (f3 - f1)) * (f2 / (f3 - f2));
    t = std::clamp(t, limit, 1 - limit);
  }
  return std::abs(f1) < std::abs(f2) ? x1 : x2;  // not covered: 200 halvings are enough for any two doubles
}

template <class F>
std::optional<double> find_root(const F& f, double a, double b, double tolerance) {
  return find_root(f, {a, b, f(a), f(b)}, tolerance);
}

/// A minimum of f in [a, b], to an absolute `tolerance` in x, by golden sections. f must have one minimum there.
template <class F>
double minimum(const F& f, double a, double b, double tolerance) {
  constexpr double ratio = 0.61803398874989484820;
  double x1 = b - ratio * (b - a), x2 = a + ratio * (b - a), f1 = f(x1), f2 = f(x2);
  while (b - a > tolerance) {
    if (f1 < f2) {
      b = std::exchange(x2, x1), f2 = f1;
      x1 = b - ratio * (b - a), f1 = f(x1);
    } else {
      a = std::exchange(x1, x2), f1 = f2;
      x2 = a + ratio * (b - a), f2 = f(x2);
    }
  }
  return 0.5 * (a + b);
}

/// f′(x) for x in [0, 1], by Richardson extrapolation of central differences, or of one-sided ones near 0 and 1. f is
/// never evaluated outside [0, 1].
///
/// Accuracy: about 1e-11 if f is smooth and at most 1.
/// Cost: about 12 evaluations of f.
template <class F>
double derivative(const F& f, double x) {
  const double room = std::min(x, 1 - x);
  const bool central = room >= 1.0 / 64;
  const double ratio = central ? 4 : 2, fx = central ? 0 : f(x);
  double h = central ? room : x < 0.5 ? 0.5 : -0.5, result = 0;
  std::array<double, 24> row{};  // the last row of the triangle of extrapolated differences
  for (std::size_t i = 0; i < row.size(); ++i, h /= 2) {
    const double before = result;
    result = central ? (f(x + h) - f(x - h)) / (2 * h) : (f(x + h) - fx) / h;
    double power = ratio;
    for (std::size_t k = 0; k < i; ++k, power *= ratio) {
      const double last = std::exchange(row[k], result);
      result += (result - last) / (power - 1);
    }
    row[i] = result;
    if (i >= 3 && std::abs(result - before) <= std::max(1e-12 * std::max(1.0, std::abs(result)), 4e-16 / std::abs(h)))
      break;
  }
  return result;
}

/// An integral, and an estimate of its error.
struct integral {
  double value, error;
};

/// ∫ f over [a, b] by the 7-point Gauss rule with its 15-point Kronrod extension.
template <class F>
integral gauss_kronrod(const F& f, double a, double b) {
  constexpr std::array<double, 8> node{0.991455371120812639206854697526329, 0.949107912342758524526189684047851,
                                       0.864864423359769072789712788640926, 0.741531185599394439863864773280788,
                                       0.586087235467691130294144691693107, 0.405845151377397166906606412076961,
                                       0.207784955007898467600689403773245, 0};
  constexpr std::array<double, 8> kronrod{0.022935322010529224963732008058970, 0.063092092629978553290700663189204,
                                          0.104790010322250183839876322541518, 0.140653259715525918745189590510238,
                                          0.169004726639267902826583426598550, 0.190350578064785409913256402421014,
                                          0.204432940075298892414161999234649, 0.209482141084727828012999174891714};
  constexpr std::array<double, 8> gauss{0, 0.129484966168869693270611432679082, 0, 0.279705391489276667901467771423780,
                                        0, 0.381830050505118944950369775488975, 0, 0.417959183673469387755102040816327};
  const double middle = 0.5 * (a + b), half = 0.5 * (b - a);
  double value = 0, coarse = 0;
  for (std::size_t i = 0; i < node.size(); ++i) {
    const double y = node[i] > 0 ? f(middle - half * node[i]) + f(middle + half * node[i]) : f(middle);
    value += kronrod[i] * y;
    coarse += gauss[i] * y;
  }
  return {half * value, std::abs(half * (value - coarse))};
}

/// The error that is allowed in a cell of an integral: the larger of `absolute` and `relative` × |value|.
struct tolerance {
  double absolute, relative;
};

/// Calls done(a, b, ∫ f over [a, b]) for cells of [a, b], from left to right. Cells are halved until the error of each is
/// allowed, or until halving no longer reduces a small relative error: the rest is then rounding in f.
/// `before` is the relative error of the cell that was halved.
template <class F, class Done>
void integrate_cells(const F& f, double a, double b, const tolerance& allowed, const Done& done, int depth = 60,
                     double before = 1) {
  const auto [value, error] = gauss_kronrod(f, a, b);
  const double middle = 0.5 * (a + b), relative = error / std::abs(value);
  const bool good = !(error > std::max(allowed.absolute, allowed.relative * std::abs(value)));  // NaN too
  const bool rounding = relative < 1e-6 && relative > 0.6 * before;
  if (good || rounding || depth == 0 || !(a < middle && middle < b)) return done(a, b, value);
  integrate_cells(f, a, middle, allowed, done, depth - 1, relative);
  integrate_cells(f, middle, b, allowed, done, depth - 1, relative);
}

/// ∫ f over [a, b], adaptively.
template <class F>
double integrate(const F& f, double a, double b, const tolerance& allowed) {
  double sum = 0;
  integrate_cells(f, a, b, allowed, [&](double, double, double value) { sum += value; });
  return sum;
}

/// Solves y′ = f(x, y) from x = a to b > a. Returns false if more than `limit` steps would be needed. y is a struct of
/// doubles, or an array of them.
///
/// f(x, y) returns y′, scale(y) the error that is allowed in each component; seen(x, y, y′) is called at a and after
/// each step.
///
/// Source: Dormand and Prince's Runge-Kutta method, order 5 with an error estimate of order 4.
template <class State, class F, class Scale, class Seen>
bool solve_ode(const F& f, double a, double b, const State& start, double step, const Scale& scale, const Seen& seen,
               int limit = 20000) {
  constexpr std::size_t N = sizeof(State) / sizeof(double);
  using numbers = std::array<double, N>;
  const auto slope = [&f](double x, const numbers& y) { return std::bit_cast<numbers>(f(x, std::bit_cast<State>(y))); };
  const auto report = [&seen](double x, const numbers& y, const numbers& dy) {
    seen(x, std::bit_cast<State>(y), std::bit_cast<State>(dy));
  };
  constexpr double A[7][6] = {{},
                              {1. / 5},
                              {3. / 40, 9. / 40},
                              {44. / 45, -56. / 15, 32. / 9},
                              {19372. / 6561, -25360. / 2187, 64448. / 6561, -212. / 729},
                              {9017. / 3168, -355. / 33, 46732. / 5247, 49. / 176, -5103. / 18656},
                              {35. / 384, 0, 500. / 1113, 125. / 192, -2187. / 6784, 11. / 84}};
  constexpr double C[7] = {0, 1. / 5, 3. / 10, 4. / 5, 8. / 9, 1, 1};
  constexpr double E[7] = {71. / 57600, 0, -71. / 16695, 71. / 1920, -17253. / 339200, 22. / 525, -1. / 40};
  double x = a;
  auto y = std::bit_cast<numbers>(start);
  numbers k[7];
  k[0] = slope(x, y);
  report(x, y, k[0]);
  while (x < b) {
    if (limit-- == 0) return false;
    const bool last = x + step >= b;
    const double h = last ? b - x : step;
    numbers next = y;
    for (std::size_t s = 1; s < 7; ++s) {
      next = y;
      for (std::size_t j = 0; j < s; ++j)
        for (std::size_t i = 0; i < N; ++i) next[i] += h * A[s][j] * k[j][i];
      k[s] = slope(x + C[s] * h, next);
    }
    const auto allowed = std::bit_cast<numbers>(scale(std::bit_cast<State>(next)));
    double error = 0;
    for (std::size_t i = 0; i < N; ++i) {
      double e = 0;
      for (std::size_t s = 0; s < 7; ++s) e += h * E[s] * k[s][i];
      error = std::max(error, std::abs(e) / allowed[i]);
    }
    if (!(error <= 1)) {  // NaN too
      step = h * (error > 1 ? std::max(0.2, 0.9 * std::pow(error, -0.2)) : 0.1);
      if (x + step <= x) return false;
      continue;
    }
    x = last ? b : x + h;
    y = next;
    k[0] = k[6];
    report(x, y, k[0]);
    step = h * std::min(5.0, 0.9 * std::pow(std::max(error, 1e-10), -0.2));
  }
  return true;
}

}  // namespace INFALIGN_NAMESPACE::detail

#include <infalign/detail/end.hpp>
