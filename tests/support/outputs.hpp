// SPDX-License-Identifier: MIT
#pragma once

#include <infalign/core.hpp>

#include <functional>
#include <iterator>
#include <vector>

using list = std::vector<double>;

/// A procedure by its meaning: of n random responses, it outputs the one with the reward choose(sorted rewards).
struct output {
  int n;
  std::function<double(const list&)> choose;
};

inline infalign::array<double> as_array(const list& x) {
  return Eigen::Map<const infalign::array<double>>(x.data(), std::ssize(x));
}

inline const output first{1, [](const list& r) { return r[0]; }};
inline const auto last = [](const list& r) { return r.back(); };
inline const auto front = [](const list& r) { return r.front(); };
