// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/detail/floating_point.hpp>

#include <Eigen/Core>

#include <concepts>
#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <type_traits>

#include <infalign/detail/begin.hpp>

/// \file
/// Error messages, "function: expected X, got Y at POSITION", and the checks that throw them.
namespace INFALIGN_NAMESPACE::detail {

/// The name of a scalar type, for messages.
template <class S>
inline constexpr const char* name_of = std::same_as<S, float> ? "float" : "double";

/// Joins strings and numbers into one string.
template <class... Parts>
std::string concat(const Parts&... parts) {
  std::string result;
  const auto append = [&result](const auto& part) {
    using Part = std::remove_cvref_t<decltype(part)>;
    if constexpr (std::integral<Part>) {
      result += std::to_string(part);
    } else if constexpr (std::floating_point<Part>) {
      char buffer[32];
      std::snprintf(buffer, sizeof buffer, "%.9g", static_cast<double>(part));
      result += is_nan(part) ? "NaN" : buffer;
    } else {
      result += part;
    }
  };
  (append(parts), ...);
  return result;
}

/// " at index 3".
inline std::string position(Eigen::Index i) {
  return concat(" at index ", i);
}

/// " at row 1, column 2".
inline std::string position(Eigen::Index row, Eigen::Index column) {
  return concat(" at row ", row, ", column ", column);
}

/// Throws. In a program that is compiled without exceptions (-fno-exceptions), prints the text and ends the program.
template <class Error>
[[noreturn]] void raise(const Error& error) {
#if defined(__cpp_exceptions) || defined(_CPPUNWIND)
  throw error;
#else
  std::fprintf(stderr, "%s\n", error.what());  // not covered: the program ends before it can say so
  std::abort();                                // not covered: as the line above
#endif
}

[[noreturn]] inline void fail(const char* function, const std::string& expected, const std::string& got) {
  raise(std::invalid_argument(concat(function, ": expected ", expected, ", got ", got)));
}

/// Throws unless two sizes are equal.
inline void check_size(const char* function, const char* what, Eigen::Index expected, Eigen::Index got) {
  if (expected != got) fail(function, concat(expected, " ", what), concat(got));
}

/// Throws unless x is finite and above 0: the rule for every weight, scale and tolerance.
inline void check_positive(const char* function, const char* what, double x) {
  if (!is_finite(x) || !(x > 0)) fail(function, concat(what, " finite and above 0"), concat(x));
}

/// Checks a part's parameters: calls `part.check(S{})` or `part.check()` if it has one. Every function and object that
/// puts a part to use calls this once; the part's own operators assume that its parameters are right.
template <class S = double, class Part>
void check_part(const Part& part) {
  if constexpr (requires { part.check(S{}); })
    part.check(S{});
  else if constexpr (requires { part.check(); })
    part.check();
}

/// Returns a part after `check_part`.
template <class S = double, class Part>
Part checked(Part part) {
  check_part<S>(part);
  return part;
}

}  // namespace INFALIGN_NAMESPACE::detail

#include <infalign/detail/end.hpp>
