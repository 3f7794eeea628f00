// SPDX-License-Identifier: MIT
#pragma once

// Constants, comparisons and random arrays that many tests share.
#include <infalign/core.hpp>

#include "catch.hpp"

#include <algorithm>
#include <limits>
#include <vector>

template <class S>
const S missing = std::numeric_limits<S>::quiet_NaN();
template <class S>
const S infinity = std::numeric_limits<S>::infinity();
template <class S>
constexpr S epsilon = std::numeric_limits<S>::epsilon();
constexpr double NaN = std::numeric_limits<double>::quiet_NaN();

/// True if shapes and coefficients are equal, NaN at the same positions included.
template <class A, class B>
bool same(const A& a, const B& b) {
  return a.rows() == b.rows() && a.cols() == b.cols() && (a == b || (a.isNaN() && b.isNaN())).all();
}

/// The Euclidean distance. NaN if a coefficient is, infinite if the shapes differ.
template <class A, class B>
double distance(const A& a, const B& b) {
  if (a.rows() != b.rows() || a.cols() != b.cols()) return infinity<double>;
  return (a.template cast<double>() - b.template cast<double>()).matrix().norm();
}

/// rows × columns numbers from draw().
template <class S, class F>
infalign::matrix<S> table_of(Eigen::Index rows, Eigen::Index columns, F draw) {
  return infalign::matrix<S>::NullaryExpr(rows, columns, [&] { return static_cast<S>(draw()); });
}

/// The mid-rank from a sorted row.
template <class S>
S mid_rank_by_sorting(std::vector<S> row, S reward) {
  std::sort(row.begin(), row.end());
  const auto below = std::lower_bound(row.begin(), row.end(), reward) - row.begin();
  const auto up_to = std::upper_bound(row.begin(), row.end(), reward) - row.begin();
  return static_cast<S>(0.5 * static_cast<double>(below + up_to) / static_cast<double>(row.size()));
}

/// A buffer with room for a rows × columns block, and for numbers around it that must not change.
template <class S>
struct surrounded {
  infalign::matrix<S> all;

  surrounded(Eigen::Index rows, Eigen::Index columns) : all(rows + 2, columns + 3) { all.setConstant(S{-77}); }
  auto block() { return all.block(1, 1, all.rows() - 2, all.cols() - 3); }
  /// True if the numbers around the block are as at first.
  bool rest_unchanged() {
    infalign::matrix<S> copy = all;
    copy.block(1, 1, all.rows() - 2, all.cols() - 3).setConstant(S{-77});
    return (copy == S{-77}).all();
  }
};

/// Calls f(x) for each x.
template <class F, class... X>
void for_each_of(F f, const X&... x) {
  (f(x), ...);
}
