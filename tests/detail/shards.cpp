// SPDX-License-Identifier: MIT
#include <infalign/detail/shards.hpp>

#include "arrays.hpp"
#include "shards.hpp"

#include <stdexcept>
#include <string>
#include <vector>

// That an error of a step in one shard ends the steps of all is in step/policy_gradient.cpp.

using namespace infalign;
using namespace infalign::detail;

namespace {

struct two_numbers {
  double x = 0, y = 0;
};

/// A work of two stages: the numbers of the shards are summed, and then nothing.
template <class F>
decltype(auto) in_two_stages(const F& f, const auto&... args) {
  return as_shard<two_numbers, no_totals>("work", f, args...);
}

}  // namespace

TEST_CASE("Shards that succeed have the sums of all, and the result of the function") {
  std::vector<double> results(3);
  const auto ops = run_shards(3, [&](std::size_t s, const auto& reduce) {
    results[s] = in_two_stages(
        [](double own, const auto& all) {
          two_numbers totals{own, 10 * own};
          all.sum(totals);
          no_totals none;
          all.sum(none);
          return totals.x + totals.y;
        },
        double(s + 1), reduce);
  });
  CHECK(results == std::vector<double>{66, 66, 66});
  CHECK(ops == std::vector<reduce_op>(2, reduce_op::sum));
}

TEST_CASE("A shard that fails before a sum ends the others at that sum, whatever they reduce in between") {
  for (const int stage : {0, 1, 2}) {
    std::vector<std::string> errors(3);
    const auto ops = run_shards(3, [&](std::size_t s, const auto& reduce) {
      errors[s] = error_of([&] {
        in_two_stages(
            [&](const auto& all) {
              const auto fail_at = [&](int now) {
                if (s == 1 && stage == now) throw std::invalid_argument("own error");
              };
              fail_at(0);
              two_numbers totals{1, 1};
              all.sum(totals);
              array<double> largest{{double(s), 1}};
              all(largest, reduce_op::maximum);
              CHECK(same(largest, array<double>{{2, 1}}));
              fail_at(1);
              no_totals none;
              all.sum(none);
              fail_at(2);  // after the last sum, where no shard may fail: the others do not learn of it
            },
            reduce);
      });
    });
    CHECK(ops.size() == (stage == 0 ? 1 : 3));
    CHECK(errors[1] == "own error");
    const std::string others =
        stage == 2 ? "no error" : "work: expected all shards to succeed, got an error in another shard";
    CHECK(errors[0] == others);
    CHECK(errors[2] == others);
  }
}

TEST_CASE("A reduction that throws is not called again") {
  for (const bool in_sum : {true, false}) {
    int calls = 0;
    const auto reduce = [&](Eigen::Ref<array<double>>, reduce_op) {
      ++calls;
      throw std::invalid_argument("no connection");
    };
    CHECK(error_of([&] {
            in_two_stages(
                [&](const auto& all) {
                  two_numbers totals;
                  array<double> values{{1}};
                  if (in_sum)
                    all.sum(totals);
                  else
                    all(values, reduce_op::sum);
                },
                reduce);
          }) == "no connection");
    CHECK(calls == 1);
  }
}

TEST_CASE("Of two errors, that of the shard and that of telling the others, the first is thrown") {
  const auto reduce = [](Eigen::Ref<array<double>>, reduce_op) { throw std::invalid_argument("no connection"); };
  CHECK(error_of([&] { in_two_stages([](const auto&) { throw std::invalid_argument("own error"); }, reduce); }) ==
        "own error");
}

TEST_CASE("A shard within a shard is the same one: it tells the others once") {
  std::vector<std::string> errors(2);
  const auto ops = run_shards(2, [&](std::size_t s, const auto& reduce) {
    errors[s] = error_of([&] {
      in_two_stages(
          [&](const auto& outer) {
            in_two_stages(
                [&](const auto& inner) {
                  STATIC_REQUIRE(std::is_same_v<decltype(inner), decltype(outer)>);
                  if (s == 0) throw std::invalid_argument("own error");
                  two_numbers totals;
                  inner.sum(totals);
                },
                outer);
          },
          reduce);
    });
  });
  CHECK(ops.size() == 1);
  CHECK(errors[0] == "own error");
}

TEST_CASE("Without a reduction, or for a whole batch, the arguments are passed on") {
  const auto second = [](int, const auto& last) -> const auto& {
    return last;
  };
  const matrix<double> last{{1}};
  const whole_batch whole;
  CHECK(&in_two_stages(second, 1, last) == &last);
  CHECK(&in_two_stages(second, 1, whole) == &whole);
}
