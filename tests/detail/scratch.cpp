// SPDX-License-Identifier: MIT
#include <infalign/detail/scratch.hpp>

#include "catch.hpp"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <new>

using namespace infalign;
using detail::scratch;

TEST_CASE("A scratch array has n values T{}, also in memory that was used before") {
  struct pair {
    int first = 7;
    double second = -1;
  };
  workspace space;
  for (workspace* const memory : {static_cast<workspace*>(nullptr), &space})
    for (int round = 0; round < 3; ++round) {
      scratch<int> numbers(memory, 5);
      scratch<pair> pairs(memory, 3);
      REQUIRE(numbers.size() == 5);
      REQUIRE(numbers.end() - numbers.begin() == 5);
      CHECK(std::count(numbers.begin(), numbers.end(), 0) == 5);
      CHECK(std::all_of(pairs.begin(), pairs.end(), [](const pair& p) { return p.first == 7 && p.second == -1; }));
      std::fill(numbers.begin(), numbers.end(), 9);
      std::fill(pairs.begin(), pairs.end(), pair{9, 9});
      CHECK(numbers[4] == 9);
      CHECK(numbers.data() == numbers.begin());
    }
}

TEST_CASE("Arrays start at multiples of 64 bytes and do not overlap") {
  workspace space;
  for (int round = 0; round < 2; ++round) {
    const scratch<char> a(&space, 1);
    const scratch<double> b(&space, 9);
    const scratch<char> c(&space, 65);
    const auto address = [](const void* p) { return reinterpret_cast<std::uintptr_t>(p); };
    CHECK(address(a.data()) % 64 == 0);
    CHECK(address(b.data()) % 64 == 0);
    CHECK(address(c.data()) % 64 == 0);
    if (round > 0) {  // one after another: 64, 128 and 128 bytes
      CHECK(address(b.data()) - address(a.data()) == 64);
      CHECK(address(c.data()) - address(b.data()) == 128);
    }
  }
}

TEST_CASE("A workspace grows to the peak of use, after which arrays of that size are in its memory") {
  workspace space;
  const auto use = [&](Eigen::Index n, Eigen::Index inner) {
    const scratch<double> outer(&space, n);
    const scratch<double> nested(&space, inner);
    return outer.data();
  };
  use(100, 400);
  const double* const memory = use(100, 400);
  CHECK(use(100, 400) == memory);
  CHECK(use(496, 0) == memory);  // 100 numbers use 832 bytes, 400 use 3,200: 504 numbers in all
  CHECK(use(1, 400) == memory);
  {
    const scratch<double> first(&space, 100), second(&space, 400), too_large(&space, 1);  // the third is allocated
    CHECK(second.data() == memory + 104);
    CHECK(too_large.data() != nullptr);
  }
  {
    const scratch<double> first(&space, 100), second(&space, 400), third(&space, 1);
    CHECK(third.data() == second.data() + 400);
  }
}

// Sanitizers end the program if an allocation fails.
#if defined(__SANITIZE_ADDRESS__)  // GCC
#define INFALIGN_ADDRESS_SANITIZER
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)  // Clang
#define INFALIGN_ADDRESS_SANITIZER
#endif
#endif

#ifndef INFALIGN_ADDRESS_SANITIZER
TEST_CASE("After an array that is too large for memory, the workspace serves others") {
  workspace space;
  const auto too_many = std::numeric_limits<Eigen::Index>::max() / 16;  // half of the address space
  CHECK_THROWS_AS(scratch<double>(&space, too_many), std::bad_alloc);
  for (int round = 0; round < 2; ++round) {
    const scratch<double> first(&space, 10), second(&space, 1);
    if (round == 1) CHECK(second.data() == first.data() + 16);  // 80 bytes use 128
  }
}
#endif
