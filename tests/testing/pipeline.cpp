// SPDX-License-Identifier: MIT
#include <infalign/testing/pipeline.hpp>

#include "arrays.hpp"

#include <map>
#include <string>
#include <vector>

using namespace infalign;
using checks::response_batch;
using Eigen::Index;

namespace {

response_batch two_prompts() {
  return {.prompt = {4, 2, 4},
          .inputs = {{}, {.name = "length"}},
          .columns = {array<double>{{1, 2, 3}}, array<double>{{10, 20, 30}}}};
}

}  // namespace

TEST_CASE("A batch has its inputs by name and its responses by prompt") {
  auto b = two_prompts();
  CHECK(b.size() == 3);
  CHECK(b.prompts() == 2);
  CHECK((b["length"] == array<double>{{10, 20, 30}}).all());
  CHECK(b.members() == std::map<int, std::vector<Index>>{{2, {1}}, {4, {0, 2}}});
  const auto part = b.only({2, 1});
  CHECK(part.prompt == std::vector<int>{4, 2});
  CHECK((part["reward"] == array<double>{{3, 2}}).all());
  CHECK((part["length"] == array<double>{{30, 20}}).all());
  CHECK(b.without([](Index i) { return i == 0; }).prompt == std::vector<int>{2, 4});
  CHECK(error_of([&] { b["tokens"]; }) == "response_batch: expected the name of an input, got tokens");
  b["reward"][1] = 7;
  CHECK(b.columns[0][1] == 7);
}

TEST_CASE("A batch with equal groups is a matrix, a prompt in a row") {
  const response_batch b{
      .prompt = {0, 0, 1, 1}, .inputs = {{}}, .columns = {array<double>{{1, 2, 3, 4}}}, .equal_groups = true};
  CHECK(same(b.as_matrix("reward"), matrix<double>{{1, 2}, {3, 4}}));
}

TEST_CASE("A pipeline returns an Eigen vector, a matrix, or a std::vector") {
  const auto b = two_prompts();
  const array<double> expected{{1, 2, 3}};
  CHECK(same(checks::pipeline{[](const response_batch& x) { return x["reward"]; }}(b), expected));
  CHECK(same(checks::pipeline{[](const response_batch& x) -> array<float> { return x["reward"].cast<float>(); }}(b),
             expected));
  CHECK(same(checks::pipeline{[](const response_batch&) { return std::vector<float>{1, 2, 3}; }}(b), expected));
  CHECK(same(checks::pipeline{[](const response_batch&) { return matrix<double>{{1, 2, 3}}; }}(b), expected));
  CHECK(same(checks::pipeline{[](const response_batch&) { return Eigen::RowVectorXd{{1, 2, 3}}; }}(b), expected));
  CHECK(error_of([&] { checks::pipeline{[](const response_batch&) { return std::vector<double>{1}; }}(b); }) ==
        "pipeline: expected 3 results, one for each response, got 1");
}

TEST_CASE("Drawn batches are within the ranges of the inputs, and of every kind") {
  const checks::pipeline f{[](const response_batch& b) { return b["reward"]; },
                           {{}, {.name = "length", .low = 1, .high = 9, .step = 2}},
                           false,
                           2};
  checks::random_source random(1);
  bool alone = false, many = false, interleaved = false, tied = false, fractions = false;
  for (int n = 0; n < 500; ++n) {
    const auto b = detail::draw_batch(f, random);
    CHECK((b["reward"].abs() <= 4).all());
    CHECK((b["reward"] * 8 == (b["reward"] * 8).round()).all());
    for (const double x : b["length"]) CHECK((x == 1 || x == 3 || x == 5 || x == 7 || x == 9));
    for (const auto& [p, group] : b.members()) {
      CHECK(std::ssize(group) >= 2);
      for (std::size_t k = 1; k < group.size(); ++k) {
        interleaved = interleaved || group[k] != group[k - 1] + 1;
        tied = tied || b["reward"][group[k]] == b["reward"][group[k - 1]];
      }
    }
    alone = alone || b.prompts() == 1;
    many = many || b.prompts() == 4;
    fractions = fractions || (b["reward"] != b["reward"].round()).any();
  }
  CHECK((alone && many && interleaved && tied && fractions));

  const checks::pipeline rows{[](const response_batch& b) { return b["reward"]; }, {{}}, true, 3};
  for (int n = 0; n < 100; ++n) {
    const auto b = detail::draw_batch(rows, random);
    for (Index i = 1; i < b.size(); ++i)
      CHECK(b.prompt[static_cast<std::size_t>(i)] >= b.prompt[static_cast<std::size_t>(i - 1)]);
    for (const auto& [p, group] : b.members())
      CHECK((std::ssize(group) == b.size() / b.prompts() && std::ssize(group) >= 3));
  }
}

// Every chain of simplifications ends, and no batch in it is empty or has a group that is too small.
TEST_CASE("Simpler batches keep the pipeline's needs, and end") {
  for (const bool rows : {false, true}) {
    const checks::pipeline f{[](const response_batch& b) { return b["reward"]; },
                             {{}, {.name = "length", .low = 1, .high = 64, .step = 1}},
                             rows,
                             2};
    checks::random_source random(2);
    for (int n = 0; n < 50; ++n) {
      auto b = detail::draw_batch(f, random);
      int steps = 0;
      for (auto next = b.simpler(); !next.empty(); next = b.simpler()) {
        b = next[static_cast<std::size_t>(random.integer(0, std::ssize(next) - 1))];
        CHECK(b.size() > 0);
        for (const auto& [p, group] : b.members())
          CHECK((std::ssize(group) >= 2 && (!rows || std::ssize(group) == b.size() / b.prompts())));
        REQUIRE(++steps < 1000);
      }
      CHECK(b.prompt == std::vector<int>{0, 0});
      CHECK(same(b["reward"], array<double>{{0, 0}}));
      CHECK(same(b["length"], array<double>{{1, 1}}));
    }
  }
}
