// SPDX-License-Identifier: MIT
#include <infalign/version.hpp>

#include "catch.hpp"

#include <string>

namespace {

/// The order that a version number is meant to have: digits of a number in base 1,000.
constexpr int number(int major, int minor, int patch) {
  return (major * 1000 + minor) * 1000 + patch;
}

}  // namespace

TEST_CASE("The library is at least of every version up to its own, and of none after it") {
  const int own = number(INFALIGN_VERSION_MAJOR, INFALIGN_VERSION_MINOR, INFALIGN_VERSION_PATCH);
  for (int major = 0; major <= INFALIGN_VERSION_MAJOR + 1; ++major)
    for (int minor = 0; minor <= INFALIGN_VERSION_MINOR + 1; ++minor)
      for (int patch = 0; patch <= INFALIGN_VERSION_PATCH + 1; ++patch) {
        CAPTURE(major, minor, patch);
        CHECK(INFALIGN_VERSION_AT_LEAST(major, minor, patch) == (number(major, minor, patch) <= own));
      }
}

#if defined(INFALIGN_PROJECT_VERSION)
TEST_CASE("The version of the headers is that of the CMake project") {
  CHECK(std::to_string(INFALIGN_VERSION_MAJOR) + "." + std::to_string(INFALIGN_VERSION_MINOR) + "." +
            std::to_string(INFALIGN_VERSION_PATCH) ==
        INFALIGN_PROJECT_VERSION);
}
#endif

TEST_CASE("The preprocessor can compare versions") {
#if INFALIGN_VERSION_AT_LEAST(0, 2, 0) && !INFALIGN_VERSION_AT_LEAST(1000, 0, 0)
  const bool compared = true;
#else
  const bool compared = false;
#endif
  CHECK(compared);
}
