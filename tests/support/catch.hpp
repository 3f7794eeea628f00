// SPDX-License-Identifier: MIT
#pragma once

// Catch2, of version 3 or 2, and what all tests share.
#if __has_include(<catch2/catch_all.hpp>)
#include <catch2/catch_all.hpp>
#else
#include <catch2/catch.hpp>
#endif

#include <cmath>
#include <ostream>
#include <stdexcept>
#include <string>

/// A number within `tolerance` of `target`, absolutely: CHECK(x == near(1, 1e-12)) shows both if it fails.
struct near {
  double target, tolerance;
  near(double t, double tol) : target(t), tolerance(tol) {}
  friend bool operator==(double x, const near& n) { return std::abs(x - n.target) <= n.tolerance; }
  friend std::ostream& operator<<(std::ostream& out, const near& n) { return out << n.target << " ± " << n.tolerance; }
};

/// The text of the std::invalid_argument that f throws; else "no error", or the text of another exception.
template <class F>
std::string error_of(F f) {
  try {
    f();
  } catch (const std::invalid_argument& error) {
    return error.what();
  } catch (const std::exception& error) {
    return std::string("another exception: ") + error.what();
  }
  return "no error";
}
