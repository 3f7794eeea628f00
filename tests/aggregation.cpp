// SPDX-License-Identifier: MIT
#include <infalign/aggregation.hpp>

#include "catch.hpp"

#include <limits>
#include <vector>

using namespace infalign;

TEST_CASE("The weight of a token by hand") {
  const batch_size total{.sequences = 4, .tokens = 10};
  CHECK(sequence_mean_of_token_sums{}.weight(5, total) == 0.25);
  CHECK(sequence_mean_of_token_sums{.length = 8}.weight(5, total) == 1. / 32);
  CHECK(sequence_mean_of_token_means{}.weight(5, total) == 0.05);
  CHECK(token_mean{}.weight(5, total) == 0.1);
}

TEST_CASE("The length does not matter to a sum, and is divided out of a mean") {
  const batch_size total{.sequences = 3, .tokens = 12};
  const std::vector<double> lengths{1, 4, 7};
  double of_sums = 0, of_means = 0, of_tokens = 0;  // the total weight of all tokens of the batch
  for (double tokens : lengths) {
    CHECK(sequence_mean_of_token_sums{}.weight(tokens, total) == sequence_mean_of_token_sums{}.weight(1, total));
    of_sums += tokens * sequence_mean_of_token_sums{}.weight(tokens, total);
    of_means += tokens * sequence_mean_of_token_means{}.weight(tokens, total);
    of_tokens += tokens * token_mean{}.weight(tokens, total);
  }
  CHECK(of_sums == near(4, 1e-15));  // the mean length
  CHECK(of_means == near(1, 1e-15));
  CHECK(of_tokens == near(1, 1e-15));
}

TEST_CASE("The fixed length must be a positive number") {
  const auto refused = [](double length) {
    return error_of([&] { sequence_mean_of_token_sums{.length = length}.check(); });
  };
  const std::string expected = "sequence_mean_of_token_sums: expected a length finite and above 0, got ";
  CHECK(refused(1024) == "no error");
  CHECK(refused(0) == expected + "0");
  CHECK(refused(-3) == expected + "-3");
  CHECK(refused(std::numeric_limits<double>::quiet_NaN()) == expected + "NaN");
  CHECK(refused(std::numeric_limits<double>::infinity()) == expected + "inf");
}
