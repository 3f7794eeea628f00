// SPDX-License-Identifier: MIT
// The headers compile after other people's macros, and leave these as they were. Compiled with GNU extensions, with which
// <complex.h> defines I.
#include <complex.h>

#include <Eigen/Core>
#include <nlohmann/json.hpp>

// Headers of the standard library do not survive min and max themselves.
#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <exception>
#include <filesystem>
#include <fstream>
#include <functional>
#include <istream>
#include <iterator>
#include <limits>
#include <map>
#include <memory>
#include <new>
#include <numeric>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <unordered_map>
#include <utility>
#include <vector>

#define min(a, b) (((a) < (b)) ? (a) : (b))  // windows.h
#define max(a, b) (((a) > (b)) ? (a) : (b))
#define check(condition) static_cast<void>(condition)  // Apple's AssertMacros.h, Unreal
#define fail(...) static_cast<void>(0)                 // the Check framework
#if !defined(I)
#define I (__extension__ 1.0iF)
#endif

#include <infalign/adapters/jsonl.hpp>
#if __has_include(<sys/mman.h>)
#include <infalign/adapters/npy.hpp>
#endif
#include <infalign/infalign.hpp>

#if !defined(min) || !defined(max) || !defined(check) || !defined(fail) || !defined(I)
#error "a macro is gone"
#endif

int three_of(int a, int b) {
  check(false);
  fail("never");
  return min(a, b) + max(1, 2);
}

double shaped() {
  const infalign::matrix<double> reference{{1, 2, 3}}, rewards{{2.5}};
  return (infalign::calibration{reference} | infalign::exponential{.t = 1})(rewards)(0, 0);
}
