// SPDX-License-Identifier: MIT
#include <infalign/calibration/calibrate.hpp>
#include <infalign/calibration/prompt_keys.hpp>

#include "catch.hpp"

#include <array>
#include <list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

using namespace infalign;
using Eigen::Index;
using strings = std::vector<std::string>;
using indices = std::vector<Index>;

TEST_CASE("The k-th key has index k") {
  const strings names{"a", "", "häkeln", std::string("b\0", 2), "a "};
  const prompt_keys keys{names};
  REQUIRE(keys.size() == 5);
  for (Index i = 0; i < 5; ++i) {
    const auto& name = names[static_cast<std::size_t>(i)];
    CHECK(keys.at(name) == i);
    CHECK(keys.contains(name));
    CHECK(keys.key(i) == name);
  }
  CHECK(keys.at("häkeln") == 2);
  CHECK(keys.at(std::string_view("abc").substr(0, 1)) == 0);
  CHECK_FALSE(keys.contains("A"));
  CHECK_FALSE(keys.contains(" a"));
  CHECK(keys(strings{"a ", "a", "", "a"}) == indices{4, 0, 1, 0});
  CHECK(keys(std::list<std::string_view>{"häkeln", "a"}) == indices{2, 0});
  CHECK(keys(std::array<const char*, 2>{"a", ""}) == indices{0, 1});
  CHECK(keys(strings{}) == indices{});
  CHECK(prompt_keys{std::array<const char*, 2>{"x", "y"}}.at("y") == 1);
  CHECK(prompt_keys{strings{}}.size() == 0);
}

TEST_CASE("Keys can be added one by one, and references to them stay valid") {
  prompt_keys keys;
  CHECK(keys.size() == 0);
  CHECK_FALSE(keys.contains(""));
  CHECK(keys.add("first") == 0);
  const std::string& first = keys.key(0);
  const char* const letters = first.data();
  for (int i = 1; i < 10000; ++i) REQUIRE(keys.add(detail::concat("prompt ", i)) == i);
  CHECK(first == "first");
  CHECK(&first == &keys.key(0));
  CHECK(letters == first.data());
  for (int i = 1; i < 10000; ++i) REQUIRE(keys.at(detail::concat("prompt ", i)) == i);
  CHECK(keys.size() == 10000);
  CHECK_FALSE(keys.contains("prompt 10000"));
}

TEST_CASE("Copies are independent, and moved-from objects can be assigned to") {
  const auto check = [](const prompt_keys& keys, Index size) {
    REQUIRE(keys.size() == size);
    for (Index i = 0; i < size; ++i) {
      REQUIRE(keys.at(std::to_string(i)) == i);
      REQUIRE(keys.key(i) == std::to_string(i));
    }
    CHECK_FALSE(keys.contains(std::to_string(size)));
  };
  const auto make = [](Index size) {
    prompt_keys keys;
    for (Index i = 0; i < size; ++i) keys.add(std::to_string(i));
    return keys;
  };
  auto copy = [&] {
    const auto gone = make(50);
    return prompt_keys(gone);
  }();
  check(copy, 50);

  auto original = make(50);
  copy = original;
  copy.add("50");
  check(original, 50);
  check(copy, 51);
  original = make(3);
  check(original, 3);
  check(copy, 51);

  const prompt_keys moved = std::move(copy);
  check(moved, 51);
  copy = make(2);  // NOLINT: assigned to after the move
  check(copy, 2);
  original = std::move(copy);
  check(original, 2);
  const auto& itself = original;
  original = itself;
  check(original, 2);

  std::vector<prompt_keys> many;
  for (Index i = 0; i < 20; ++i) many.push_back(make(i));
  for (Index i = 0; i < 20; ++i) check(many[static_cast<std::size_t>(i)], i);
  std::swap(many[3], many[9]);
  check(many[3], 9);
  check(many[9], 3);
}

TEST_CASE("Repeated and unknown keys are rejected, and the error shows the key") {
  CHECK(error_of([] {
          prompt_keys{strings{"a", "b", "c", "b"}};
        }) == "prompt_keys: expected keys that differ, got \"b\" at index 1 and again at index 3");
  prompt_keys keys{strings{"a", "b"}};
  CHECK(error_of([&] { keys.add("a"); }) ==
        "prompt_keys: expected keys that differ, got \"a\" at index 0 and again at index 2");
  CHECK(keys.size() == 2);
  CHECK(keys.add("c") == 2);
  CHECK(error_of([&] { keys.at("d"); }) == "prompt_keys: expected one of 3 keys, got \"d\"");
  CHECK(error_of([&] { keys.at("two\nlines"); }) == "prompt_keys: expected one of 3 keys, got \"two lines\"");
  CHECK(error_of([&] { keys(strings{"c", "a", "B"}); }) == "prompt_keys: expected one of 3 keys, got \"B\" at index 2");
  CHECK(error_of([] { prompt_keys().at(""); }) == "prompt_keys: expected one of 0 keys, got \"\"");
  CHECK(error_of([&] { keys.key(3); }) == "prompt_keys: expected an index below 3, got 3");
  CHECK(error_of([&] { keys.key(-1); }) == "prompt_keys: expected an index below 3, got -1");

  // Up to 83 bytes are shown as they are; of a longer key, the first 50 and the last 30, but only whole characters (é has
  // two bytes).
  const auto shown = [&](const std::string& key) {
    const std::string error = error_of([&] { keys.at(key); }), before = "prompt_keys: expected one of 3 keys, got ";
    REQUIRE(error.substr(0, before.size()) == before);
    return error.substr(before.size());
  };
  const auto times = [](int n, const std::string& part) {
    std::string result;
    for (int i = 0; i < n; ++i) result += part;
    return result;
  };
  CHECK(shown(times(83, "x")) == detail::concat("\"", times(83, "x"), "\""));
  CHECK(shown(times(50, "x") + "yy" + times(32, "z")) ==
        detail::concat("\"", times(50, "x"), "…", times(30, "z"), "\""));
  CHECK(shown(times(1000000, "z")) == detail::concat("\"", times(50, "z"), "…", times(30, "z"), "\""));
  CHECK(shown(times(50, "é")) == detail::concat("\"", times(25, "é"), "…", times(15, "é"), "\""));
  CHECK(shown(detail::concat("x", times(50, "é"), "y")) ==
        detail::concat("\"x", times(24, "é"), "…", times(14, "é"), "y\""));
  CHECK(shown(times(100, "\x80")).size() < 100);
}

TEST_CASE("A batch of prompts known by name can be calibrated") {
  const prompt_keys keys{strings{"one", "two"}};
  const calibration shape{matrix<float>{{1, 2, 3, 4}, {10, 20, 30, 40}}};
  const strings prompts{"two", "one", "two"};
  const array<float> u = shape(keys(prompts), array<float>{{25, 5, 10}});
  CHECK((u == array<float>{{0.5f, 1, 0.125f}}).all());
}
