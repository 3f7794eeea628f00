// SPDX-License-Identifier: MIT
#include <infalign/detail/batch.hpp>

#include "arrays.hpp"

#include <array>
#include <span>
#include <string>
#include <tuple>
#include <vector>

using namespace infalign;
using Eigen::Index;

namespace {

/// What for_each_run passes: the prompt, the prompt ahead, and the rewards of each run.
using runs = std::vector<std::tuple<Index, Index, std::vector<float>>>;

template <class Prompts>
runs listed(const Prompts& prompts, const detail::rows_view<const float>& rewards, Index distance) {
  runs result;
  prompts.for_each_run(rewards, 0, distance, [&](Index p, Index ahead, const float* run, Index n) {
    result.emplace_back(p, ahead, std::vector<float>(run, run + n));
  });
  return result;
}

}  // namespace

TEST_CASE("The rows of a matrix are runs, also if they are apart in memory") {
  const std::vector<float> memory{1, 2, 3, 0, 4, 5, 6, 0};
  CHECK(listed(detail::row_prompts{2, 3}, {memory.data(), 2, 3, 4}, 1) == runs{{0, 1, {1, 2, 3}}, {1, 1, {4, 5, 6}}});
}

TEST_CASE("Neighbours of one prompt in a flat batch are a run") {
  const std::vector<char> prompt{2, 2, 0, 1, 1, 1};
  const std::vector<float> rewards{1, 2, 3, 4, 5, 6};
  CHECK(listed(detail::flat_prompts<std::vector<char>>{prompt}, {rewards.data(), 1, 6, 6}, 1) ==
        runs{{2, 1, {1, 2}}, {0, 1, {3}}, {1, 1, {4, 5, 6}}});
}

TEST_CASE("Positions are rows and columns of a matrix, and indices of a flat batch") {
  const std::vector<int> prompt{0, 1, 5};
  const detail::flat_prompts<std::vector<int>> flat{prompt};
  CHECK(flat.position(2) == " at index 2");
  CHECK(detail::row_prompts{2, 3}.position(5) == " at row 1, column 2");
  CHECK(detail::row_prompts{2, 3}[2] == 0);
  CHECK(detail::row_prompts{2, 3}[3] == 1);
  CHECK(error_of([&] { flat.check("f", 6); }) == "no error");
  CHECK(error_of([&] { flat.check("f", 5); }) == "f: expected prompt indices from 0 to 4, got 5 at index 2");
  CHECK(error_of([] {
          detail::row_prompts{2, 3}.check("f", 3);
        }) == "f: expected 3 rows of rewards, one for each row of the reference, got 2");
}

TEMPLATE_TEST_CASE("The memory of a result has the shape of its batch and contiguous rows", "", float, double) {
  using S = TestType;
  matrix<S> m(4, 6);
  array<S> column(4);
  const std::vector<int> prompt{0, 0, 0, 0};
  const detail::flat_prompts<std::vector<int>> flat{prompt};
  const auto rows = detail::rows_of_result("f", m, detail::row_prompts{4, 6});
  CHECK(rows.packed());
  const auto one_row = rows.as_one_row();
  CHECK(one_row.data == rows.data);
  CHECK(one_row.rows == 1);
  CHECK(one_row.columns == rows.size());
  CHECK(one_row.packed());
  auto block = m.block(1, 2, 2, 3);
  const auto part = detail::rows_of_result("f", block, detail::row_prompts{2, 3});
  CHECK(!part.packed());
  CHECK(detail::rows_view<S>{m.data(), 1, 3, 6}.packed());  // one row has no gaps
  CHECK(detail::rows_view<S>{m.data(), 0, 3, 6}.packed());
  CHECK(part.row(1) == &m(2, 2));
  CHECK(detail::rows_of_result("f", column, flat).data == column.data());
  CHECK(error_of([&] {
          detail::rows_of_result("f", m, detail::row_prompts{3, 6});
        }) == "f: expected a result of 3 x 6, got 4 x 6");
  array<S> three(3);
  CHECK(error_of([&] { detail::rows_of_result("f", three, flat); }) ==
        "f: expected 4 numbers in the result, one for each reward, got 3");
  auto strided = m.col(2);
  CHECK(error_of([&] { detail::rows_of_result("f", strided, flat); }) ==
        "f: expected a result contiguous in memory, got an inner stride of 6");
  const std::vector<int> two_prompts{0, 1}, one_prompt{0};
  const detail::flat_prompts<std::vector<int>> of_two{two_prompts}, of_one{one_prompt};
  auto two = m.col(2).head(2), one = m.col(2).head(1);
  CHECK(error_of([&] { detail::rows_of_result("f", two, of_two); }) ==
        "f: expected a result contiguous in memory, got an inner stride of 6");
  CHECK(detail::rows_of_result("f", one, of_one).data == &m(0, 2));
  using spread = Eigen::Map<matrix<S>, 0, Eigen::Stride<Eigen::Dynamic, Eigen::Dynamic>>;
  spread every_other(m.data(), 4, 3, {6, 2});
  CHECK(error_of([&] {
          detail::rows_of_result("f", every_other, detail::row_prompts{4, 3});
        }) == "f: expected rows contiguous in memory, got an inner stride of 2");
}

TEMPLATE_TEST_CASE("The rewards of a flat batch are a row, a column, a vector, a span or an array, and are not copied",
                   "", float, double) {
  using S = TestType;
  const std::vector<int> prompt{3, 1, 3};
  const std::array<S, 3> rewards{5, 6, 7};
  const auto read = [&](const auto& r) {
    return detail::with_batch(
        "f",
        [&](const auto& prompts, const auto& row, int option) {
          CHECK(prompts.size() == 3);
          CHECK(row.rows() == 1);
          CHECK(row(0, 0) == 5);
          CHECK(row(0, 2) == 7);
          CHECK(option == 4);
          return row.data() == rewards.data();
        },
        prompt, r, 4);
  };
  CHECK(read(rewards));
  CHECK(read(std::span<const S>(rewards)));
  CHECK(read(std::span<const S, 3>(rewards)));
  CHECK(read(Eigen::Map<const array<S>>(rewards.data(), 3)));
  CHECK(!read(std::vector<S>(rewards.begin(), rewards.end())));  // memory of its own
  CHECK(error_of([&] {
          detail::with_batch(
              "f", [](const auto&...) {}, prompt, std::vector<S>{1, 2});
        }) == "f: expected 2 prompt indices, one for each reward, got 3");
  STATIC_REQUIRE(detail::begins_with_batch<std::vector<int>, std::span<S>, int>);
  STATIC_REQUIRE(!detail::begins_with_batch<std::vector<int>, matrix<S>>);
  STATIC_REQUIRE(!detail::begins_with_batch<std::vector<int>, std::vector<int>>);
}
