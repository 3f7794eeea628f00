// SPDX-License-Identifier: MIT
#include <infalign/testing/search.hpp>

#include "arrays.hpp"

#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

using namespace infalign;
using Eigen::Index;

namespace {

/// A case that is one whole number. Half of it and one less are simpler.
struct number {
  Index value;

  std::vector<number> simpler() const {
    if (value == 0) return {};
    return {{value / 2}, {value - 1}};
  }
  void show(checks::report& r, const checks::named_columns& columns) const {
    r.responses = 1;
    r.counterexample.add("number", array<double>::Constant(1, static_cast<double>(value)));
    for (std::size_t c = 0; c < columns.columns.size(); ++c) r.counterexample.add(columns.names[c], columns.columns[c]);
  }
};

number draw(checks::random_source& random) {
  return {random.integer(0, 1000)};
}

/// A fault if the number is at least `least`.
auto at_least(Index least) {
  return [least](const number& n) -> checks::fault {
    if (n.value < least) return {};
    checks::fault found{"It is large.", {}};
    found.columns.add("doubled", array<double>::Constant(1, 2.0 * static_cast<double>(n.value)));
    return found;
  };
}

}  // namespace

TEST_CASE("The first case with a fault is simplified as far as the fault remains") {
  const auto r = checks::search("small", {}, draw, at_least(17));
  CHECK(!r);
  CHECK(r.finding == "It is large.");
  CHECK(r.counterexample.columns[0][0] == 17);
  CHECK(r.counterexample.columns[1][0] == 34);
  CHECK(r.responses == 1);
}

TEST_CASE("Without a fault, all cases are tried, and nothing is reported") {
  int calls = 0;
  const auto r = checks::search("small", {.seed = 5, .cases = 321}, draw, [&](const number& n) {
    ++calls;
    return at_least(1001)(n);
  });
  CHECK(r);
  CHECK(calls == 321);
  CHECK(r.cases == 321);
  CHECK(r.seed == 5);
  CHECK(r.finding.empty());
  CHECK(r.counterexample.columns.empty());
}

TEST_CASE("A seed gives the same cases again, and another seed gives others") {
  const auto drawn = [](std::uint64_t seed) {
    std::vector<Index> values;
    checks::search("all", {.seed = seed, .cases = 50}, draw, [&](const number& n) {
      values.push_back(n.value);
      return checks::fault{};
    });
    return values;
  };
  CHECK(drawn(1) == drawn(1));
  CHECK(drawn(1) != drawn(2));
  for (const auto x : drawn(3)) CHECK((x >= 0 && x <= 1000));
}

TEST_CASE("The random numbers of a seed are the same on every machine") {
  // The first number for the seed 0 that is published with the generator is 0xe220a8397b1dcdaf.
  CHECK(checks::random_source(0).integer(0, 999) == 0xe220a8397b1dcdafu % 1000);
  checks::random_source random(1);
  CHECK(random.integer(0, 999) == 465);  // 10451216379200822465 modulo 1,000
  CHECK(random.integer(7, 7) == 7);
}

TEST_CASE("An exception is a fault, and is not taken for another fault while the case is simplified") {
  const auto throws = [](const number& n) -> checks::fault {
    if (n.value >= 5) throw std::runtime_error("too large");
    return at_least(1)(n);
  };
  const auto r = checks::search("small", {}, draw, throws);
  CHECK(r.finding == "The function throws: too large");
  CHECK(r.counterexample.columns[0][0] == 5);

  const auto other = checks::search("small", {}, draw, [](const number& n) -> checks::fault {
    if (n.value == 3 || n.value == 2) throw std::runtime_error("not these");
    return at_least(1)(n);
  });
  CHECK(other.finding == "It is large.");
  CHECK(other.counterexample.columns[0][0] == 4);  // 2 and 3, which are simpler, have another fault
}

TEST_CASE("Simplification stops after the number of cases that the options allow") {
  for (const int most : {0, 1, 3}) {
    int calls = 0;
    const auto r = checks::search("small", {.simplifications = most}, draw, [&](const number& n) {
      ++calls;
      return at_least(0)(n);
    });
    CHECK(!r);
    CHECK(calls == 1 + most);
  }
}

TEST_CASE("A report is printed as a check, a finding and a table") {
  checks::report r{.check = "increasing", .passed = false, .cases = 2, .seed = 9, .finding = "It falls."};
  r.counterexample.add("reward", array<double>{{-0.5, 0.0}});
  r.counterexample.add("result", array<double>{{detail::nan<double>, -0.0}});
  CHECK(to_string(r) ==
        "FAILED: increasing (2 cases, seed 9)\n"
        "  It falls.\n"
        "     reward  result\n"
        "       -0.5     NaN\n"
        "          0       0\n");
  std::ostringstream out;
  out << checks::report{.check = "finite", .cases = 1, .seed = 1};
  CHECK(out.str() == "passed: finite (1 case, seed 1)\n");
}
