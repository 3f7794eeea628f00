// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/detail/distributions.hpp>
#include <infalign/detail/floating_point.hpp>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <type_traits>
#include <utility>
#include <vector>

#include <infalign/detail/begin.hpp>

/// \file
/// The CDF of many rewards in little memory, and the fast evaluation of CDFs.
namespace INFALIGN_NAMESPACE::detail {

/// An integer that orders like a number: a < b if and only if key(a) < key(b); −0 and +0 have one key.
template <class S>
std::make_signed_t<bits_of<S>> order_key(S x) {
  using key = std::make_signed_t<bits_of<S>>;
  const auto bits = std::bit_cast<bits_of<S>>(x);
  const auto size = static_cast<key>(static_cast<bits_of<S>>(bits << 1) >> 1);
  return static_cast<key>(bits) < 0 ? -size : size;
}

/// The number with a key.
template <class S>
S from_order_key(std::make_signed_t<bits_of<S>> key) {
  constexpr bits_of<S> sign = bits_of<S>{1} << (sizeof(S) * 8 - 1);
  return std::bit_cast<S>(key < 0 ? static_cast<bits_of<S>>(-key) | sign : static_cast<bits_of<S>>(key));
}

/// Sorts numbers without NaN. Long lists are sorted by their keys, 11 bits at a time: 4 to 5 ns a float, where std::sort
/// takes 60.
template <class S>
void sort_numbers(std::vector<S>& x) {
  if (x.size() < 4096) return std::sort(x.begin(), x.end());
  using bits = bits_of<S>;
  constexpr int digit = 11, digits = (static_cast<int>(sizeof(S)) * 8 + digit - 1) / digit;
  constexpr bits top = bits{1} << (sizeof(S) * 8 - 1), mask = (bits{1} << digit) - 1;
  std::vector<bits> from(x.size()), to(x.size());
  std::vector<std::array<std::size_t, mask + 1>> starts(digits);
  for (std::size_t i = 0; i < x.size(); ++i) {
    from[i] = static_cast<bits>(order_key(x[i])) ^ top;
    for (int d = 0; d < digits; ++d) ++starts[static_cast<std::size_t>(d)][from[i] >> (d * digit) & mask];
  }
  for (auto& start : starts) {
    std::size_t sum = 0;
    for (auto& n : start) sum += std::exchange(n, sum);
  }
  for (int d = 0; d < digits; ++d) {
    auto& start = starts[static_cast<std::size_t>(d)];
    for (const bits b : from) to[start[b >> (d * digit) & mask]++] = b;
    from.swap(to);
  }
  for (std::size_t i = 0; i < x.size(); ++i)
    x[i] = from_order_key<S>(static_cast<std::make_signed_t<bits>>(from[i] ^ top));
}

/// The CDF of weighted numbers. At each knot it holds two sums of weights: of the numbers below, and of those at most as
/// large. Between two knots the CDF is a line.
///
/// Up to `capacity` numbers, every distinct number is a knot, and the CDF is exact. Of more numbers, only some become
/// knots: the weight between neighbours is at most about total/capacity. A number with more weight than that is a knot
/// of its own, so that ties are exact.
///
/// Accuracy: 1e-4; about 1e-5 for rewards without heavy ties.
/// Cost: memory for at most 4·capacity knots.
template <class S>
struct pooled_cdf {
  static constexpr std::size_t capacity = std::size_t{1} << 13;

  std::vector<S> value;  // increasing
  std::vector<double> below, at_most;
  double total = 0;

  /// Adds sorted numbers, each of weight 1.
  void add_sorted(const std::vector<S>& x) {
    if (x.empty()) return;
    pooled_cdf sum;
    sum.total = total + static_cast<double>(x.size());
    sum.value.reserve(value.size() + capacity);
    sum.below.reserve(value.size() + capacity);
    sum.at_most.reserve(value.size() + capacity);
    const double limit = sum.total / static_cast<double>(capacity);
    double last = 0;  // `at_most` of the last knot
    std::size_t k = 0, j = 0;
    while (k < value.size() || j < x.size()) {
      const bool old = k < value.size() && (j == x.size() || value[k] <= x[j]);
      const S v = old ? value[k] : x[j];
      const std::size_t first = j;
      while (j < x.size() && x[j] == v) ++j;
      const double lower = (old ? below[k] : between(k, v)) + static_cast<double>(first);
      const double upper = (old ? at_most[k] : lower - static_cast<double>(first)) + static_cast<double>(j);
      k += old;
      const bool end = sum.value.empty() || (k == value.size() && j == x.size());
      if (!end && upper - last < (old ? 0.25 : 1) * limit) continue;
      sum.value.push_back(v), sum.below.push_back(lower), sum.at_most.push_back(upper);
      last = upper;
    }
    *this = std::move(sum);
  }

  /// The mean of |F(X) − F(Y)| over all pairs of the numbers, with F the mid-rank CDF.
  double mean_difference() const {
    // Sum over the pairs, by weights in increasing order. Weight between two knots is spread evenly: a pair within it
    // differs by a third of its length on average.
    double sum = 0, weight = 0, moment = 0;  // of what is already passed: Σ w and Σ w·F
    const auto pass = [&](double w, double from, double to) {
      const double middle = 0.5 * (from + to);
      sum += w * (weight * middle - moment) + 0.5 * w * w * (to - from) / 3;
      weight += w, moment += w * middle;
    };
    double last = 0;
    for (std::size_t k = 0; k < value.size(); ++k) {
      pass(below[k] - last, last / total, below[k] / total);
      const double tied = at_most[k] - below[k], middle = 0.5 * (below[k] + at_most[k]) / total;
      pass(tied, middle, middle);
      last = at_most[k];
    }
    return sum / (0.5 * total * (total - 1));
  }

 private:
  /// The sum of weights up to v, between knots k − 1 and k.
  double between(std::size_t k, S v) const {
    if (k == 0) return 0;
    if (k == value.size()) return total;
    const double share = (static_cast<double>(v) - static_cast<double>(value[k - 1])) /
                         (static_cast<double>(value[k]) - static_cast<double>(value[k - 1]));
    const double mass = below[k] - at_most[k - 1];
    return at_most[k - 1] + (share > 0 && share < 1 ? share * mass : 0);
  }
};

/// Cells of equal width that numbers fall into, in order: equal widths of the numbers, or of their keys, which are
/// about equal widths of their logarithms.
template <class S>
class even_cells {
 public:
  static constexpr int count = 1 << 14;

  even_cells() = default;
  even_cells(bool of_keys, S low, S high)
      : of_keys_(of_keys), low_(low), high_(high), per_width_(static_cast<S>(count) / from_low(high)) {}

  /// True if the ends are far enough apart for cells.
  bool work() const { return is_finite(low_) && is_finite(per_width_) && per_width_ > 0; }

  /// The cell and the place in it, as one number: from 0 to count for numbers between the ends.
  S operator()(S x) const { return from_low(x) * per_width_; }

  /// The number at a place: `cell` is its start, `cell + ½` its middle.
  S number(S place) const {
    const S from = place / per_width_;
    if (!(place < static_cast<S>(count))) return high_;
    if (!of_keys_) return std::min(low_ + from, high_);
    const auto steps = std::min(static_cast<unsigned_key>(from), distance(high_));
    return from_order_key<S>(static_cast<key>(static_cast<unsigned_key>(order_key(low_)) + steps));
  }

 private:
  using unsigned_key = bits_of<S>;
  using key = std::make_signed_t<unsigned_key>;
  unsigned_key distance(S x) const {
    return static_cast<unsigned_key>(order_key(x)) - static_cast<unsigned_key>(order_key(low_));
  }
  S from_low(S x) const { return of_keys_ ? static_cast<S>(distance(x)) : x - low_; }

  bool of_keys_ = false;
  S low_ = 0, high_ = 0, per_width_ = 0;
};

/// A non-decreasing function of a reward: f of a pooled CDF. The function is f at the knots (of the mid-rank) and on
/// both sides of each knot, and a line between two knots.
///
/// Cost: about 3 ns, if the function is nearly a line in the cell of the reward; else 8 to 30 ns for a search.
/// Accuracy: 2e-5 in f; exact if no more numbers were pooled than a `pooled_cdf` holds.
template <class S>
class cdf_table {
 public:
  cdf_table() : cdf_table(pooled_cdf<S>{}, [](double u) { return u; }) {}

  template <class F>
  cdf_table(const pooled_cdf<S>& cdf, const F& f) : value_(cdf.value) {
    const std::size_t n = value_.size();
    knots_.resize(n + 1);
    const double lowest = f(0.0);
    knots_[0] = {static_cast<S>(lowest), static_cast<S>(lowest), static_cast<S>(lowest), 0};
    for (std::size_t k = 0; k < n; ++k) {
      const double left = f(cdf.below[k] / cdf.total), right = f(cdf.at_most[k] / cdf.total);
      knots_[k + 1] = {static_cast<S>(left), static_cast<S>(f(0.5 * (cdf.below[k] + cdf.at_most[k]) / cdf.total)),
                       static_cast<S>(right), 0};
    }
    for (std::size_t k = 0; k + 1 < n; ++k) {
      const S slope = (knots_[k + 2].left - knots_[k + 1].right) / (value_[k + 1] - value_[k]);
      if (is_finite(slope) && is_finite(value_[k + 1] - value_[k])) knots_[k + 1].slope = slope;
    }
    if (n < 2) return;
    // Equal widths of the numbers or of their keys, whichever has more lines; the outermost knots, 1 in 128, may be far.
    const std::size_t tail = n / 256;
    double most = 0;
    for (const bool of_keys : {false, true}) {
      const even_cells<S> even(of_keys, value_[tail], value_[n - 1 - tail]);
      if (!even.work()) continue;
      std::vector<cell> cells;
      if (const double lines = fill(even, cells); lines > most) most = lines, even_ = even, cells_.swap(cells);
    }
  }

  /// The value at r, which is not NaN.
  S operator()(S r) const {
    const S at = even_(r);
    if (!cells_.empty() && at >= 0 && at < static_cast<S>(even_cells<S>::count)) {
      const auto c = static_cast<int>(at);
      const cell& line = cells_[static_cast<std::size_t>(c)];
      if (line.rise >= 0) return line.base + line.rise * (at - static_cast<S>(c));
    }
    return search(r);
  }

 private:
  struct knot {
    S left, at, right, slope;
  };
  /// A line over a cell; rise is below 0 if the function is not one.
  struct cell {
    S base, rise;
  };

  S search(S r) const {
    const auto k = static_cast<std::size_t>(std::upper_bound(value_.begin(), value_.end(), r) - value_.begin());
    const knot& to = knots_[k];
    if (k == 0) return to.right;
    const S v = value_[k - 1];
    if (v == r) return to.at;
    return to.slope > 0 ? to.right + to.slope * (r - v) : to.right;
  }

  /// Fills the cells; returns how much of the function is covered by lines.
  double fill(const even_cells<S>& even, std::vector<cell>& cells) const {
    constexpr S most = static_cast<S>(2e-5);
    constexpr int count = even_cells<S>::count;
    cells.resize(static_cast<std::size_t>(count));
    S base = search(even.number(0));
    for (int i = 0; i < count; ++i) {
      const S next = search(even.number(static_cast<S>(i + 1))),
              middle = search(even.number(static_cast<S>(i) + S(0.5)));
      cell& c = cells[static_cast<std::size_t>(i)];
      c = {base, next - base};
      if (std::abs(base + c.rise / 2 - middle) > most) c.rise = -1;
      base = next;
    }
    for (std::size_t k = 0; k < value_.size(); ++k) {
      const S at = even(value_[k]);
      if (!(at >= 0) || !(at < static_cast<S>(count))) continue;
      cell& c = cells[static_cast<std::size_t>(at)];
      const S line = c.base + c.rise * (at - std::floor(at));
      if (std::abs(knots_[k + 1].left - line) > most || std::abs(knots_[k + 1].right - line) > most) c.rise = -1;
    }
    double lines = 0;
    for (const cell& c : cells) lines += c.rise > 0 ? static_cast<double>(c.rise) : 0;
    for (std::size_t k = 1; k < cells.size(); ++k) lines += 1e-9 * (cells[k].rise >= 0);
    return lines;
  }

  std::vector<S> value_;
  std::vector<knot> knots_;
  even_cells<S> even_;
  std::vector<cell> cells_;
};

/// N by a table over [−8, 8].
///
/// Accuracy: 1e-6.
template <class S>
class normal_table {
 public:
  normal_table() {
    for (int i = 0; i < cells; ++i) {
      const double left = normal_cdf(i / 256.0 - 8), right = normal_cdf((i + 1) / 256.0 - 8);
      lines_[static_cast<std::size_t>(i)] = {static_cast<S>(left), static_cast<S>(right - left)};
    }
  }
  S operator()(S x) const {
    const S place = std::min(std::max(S{-8}, x) + 8, S(15.999)) * 256;
    const auto i = static_cast<int>(place);
    const cell& c = lines_[static_cast<std::size_t>(i)];
    return c.base + c.rise * (place - static_cast<S>(i));
  }

 private:
  static constexpr int cells = 4096;
  struct cell {
    S base, rise;
  };
  std::vector<cell> lines_ = std::vector<cell>(cells);
};

}  // namespace INFALIGN_NAMESPACE::detail

#include <infalign/detail/end.hpp>
