// SPDX-License-Identifier: MIT
#include <infalign/detail/groups.hpp>

#include "arrays.hpp"

#include <cstdint>
#include <limits>
#include <map>
#include <random>
#include <vector>

using namespace infalign;
using Eigen::Index;

namespace {

/// The scored values of each group, by the position of its first response.
template <class S>
std::map<Index, std::vector<S>> listed(const detail::groups& g, const std::vector<S>& values) {
  std::map<Index, std::vector<S>> result;
  g.for_each(values.data(), [&](const auto& in, Index first) {
    REQUIRE(result.emplace(first, std::vector<S>(in.begin(), in.end())).second);
  });
  return result;
}

template <class S>
using lists = std::map<Index, std::vector<S>>;

detail::groups rows(Index count, Index size) {
  return detail::groups(detail::row_prompts{count, size}, nullptr);
}

/// The groups of prompt indices, which must outlive them.
template <prompt_index I>
detail::groups by(const I& prompt) {
  return detail::groups(detail::flat_prompts<I>{prompt}, nullptr);
}

}  // namespace

TEMPLATE_TEST_CASE("The rows of a matrix are groups", "", float, double) {
  using S = TestType;
  const auto g = rows(2, 3);
  CHECK(g.count() == 2);
  CHECK(g.size() == 6);
  CHECK(g.columns() == 3);
  CHECK(listed<S>(g, {1, 2, 3, 4, 5, 6}) == lists<S>{{0, {1, 2, 3}}, {3, {4, 5, 6}}});
}

TEMPLATE_TEST_CASE("Responses with one prompt index are a group, in batch order", "", float, double) {
  using S = TestType;
  const std::vector<int> prompt{7, 3, 7, 5, 3, 7};
  const auto g = by(prompt);
  CHECK(g.count() == 3);
  CHECK(g.size() == 6);
  CHECK(g.columns() == 0);
  CHECK(listed<S>(g, {10, 11, 12, 13, 14, 15}) == lists<S>{{0, {10, 12, 15}}, {1, {11, 14}}, {3, {13}}});
}

TEMPLATE_TEST_CASE("Indices may be negative, huge, and of any integer type", "", std::int8_t, std::int16_t, int,
                   std::int64_t, std::uint8_t, std::uint64_t) {
  using id = TestType;
  const id low = std::numeric_limits<id>::min(), high = std::numeric_limits<id>::max();
  const lists<float> expected{{0, {1, 3, 6}}, {1, {2, 5}}, {3, {4}}};
  const std::vector<float> values{1, 2, 3, 4, 5, 6};
  CHECK(listed(by(std::vector<id>{high, low, high, 0 == low ? id{1} : id{0}, low, high}), values) == expected);
  CHECK(listed(by(Eigen::Array<id, 6, 1>{high, low, high, 0 == low ? id{1} : id{0}, low, high}), values) == expected);
}

TEST_CASE("Neighbouring huge indices are different groups") {
  const std::int64_t a = (std::int64_t{1} << 53) + 1;  // the same double as 2^53
  CHECK(by(std::vector<std::int64_t>{a, a - 1, a}).count() == 2);
}

TEST_CASE("A batch without responses has no groups with responses") {
  const std::vector<int> nobody;
  const auto check = [](const detail::groups& g) {
    CHECK(g.count() == 0);
    CHECK(g.size() == 0);
    CHECK(listed<float>(g, {}).empty());
  };
  check(by(nobody));
  check(rows(0, 0));
  check(rows(0, 4));
  const auto empty_rows = rows(3, 0);
  CHECK(empty_rows.count() == 3);
  CHECK(empty_rows.size() == 0);
  CHECK(listed<float>(empty_rows, {}).empty());
}

TEMPLATE_TEST_CASE("Unscored values are left out, and groups without scored values are not visited", "", float,
                   double) {
  using S = TestType;
  const S none = missing<S>;
  CHECK(listed<S>(rows(3, 2), {none, 1, none, none, 2, 3}) == lists<S>{{0, {1}}, {4, {2, 3}}});
  // A group's position is that of its first response, scored or not.
  CHECK(listed<S>(by(std::vector<int>{2, 1, 1, 2}), {none, none, 5, 6}) == lists<S>{{0, {6}}, {1, {5}}});
}

TEMPLATE_TEST_CASE("Results are scattered back to the positions of their inputs", "", float, double) {
  using S = TestType;
  const S none = missing<S>;
  const auto sum_of_others = [](const auto& in, auto out, Index first) {
    out = in.sum() - in + static_cast<S>(100 * first);
  };
  const std::vector<int> prompt{1, 0, 1, 0, 2, 1};
  const auto g = by(prompt);
  const std::vector<S> values{1, 2, 4, none, none, 8}, expected{12, 100, 9, -1, -1, 5};
  std::vector<S> results(6, 77);
  g.apply(values.data(), results.data(), S{-1}, sum_of_others);
  CHECK(results == expected);

  std::vector<S> in_place = values;
  g.apply(in_place.data(), in_place.data(), S{-1}, sum_of_others);
  CHECK(in_place == expected);

  std::vector<S> of_rows{1, 2, 3, none, none, 4};
  rows(2, 3).apply(of_rows.data(), of_rows.data(), S{0}, sum_of_others);
  CHECK(of_rows == std::vector<S>{5, 4, 3, 0, 0, 300});
}

TEST_CASE("Every response is in one group, and groups hold equal indices only") {
  std::mt19937 random(5);
  for (int repeat = 0; repeat < 50; ++repeat) {
    std::vector<int> prompt(random() % 60);
    std::vector<double> places(prompt.size());
    for (std::size_t i = 0; i < prompt.size(); ++i) {
      prompt[i] = static_cast<int>(random() % 9) - 4;
      places[i] = static_cast<double>(i);
    }
    std::map<int, std::vector<double>> by_index;
    for (std::size_t i = 0; i < prompt.size(); ++i) by_index[prompt[i]].push_back(places[i]);
    lists<double> expected;
    for (const auto& [index, members] : by_index) expected[static_cast<Index>(members.front())] = members;
    CHECK(listed(by(prompt), places) == expected);
    CHECK(by(prompt).count() == static_cast<Index>(by_index.size()));
  }
}

TEST_CASE("Groups take their memory from a workspace, and error messages name positions") {
  workspace space;
  const std::vector<int> prompt{7, 3, 7};
  for (int repeat = 0; repeat < 2; ++repeat) {
    const detail::groups flat(detail::flat_prompts<std::vector<int>>{prompt}, &space);
    CHECK(flat.count() == 2);
    CHECK(flat.position(2) == " at index 2");
    CHECK(detail::groups(detail::row_prompts{2, 3}, &space).position(4) == " at row 1, column 1");
  }
}
