// SPDX-License-Identifier: MIT
#pragma once

// What the tests of the step share.
#include <infalign/policy_gradient.hpp>

#include "catch.hpp"

/// The Euclidean distance of two gradients.
inline double distance(const infalign::matrix<double>& a, const infalign::matrix<double>& b) {
  return (a - b).matrix().norm();
}

/// Calls f(x) for each x.
template <class F, class... X>
void for_each_of(F f, const X&... x) {
  (f(x), ...);
}
