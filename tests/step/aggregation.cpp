// SPDX-License-Identifier: MIT
#include <infalign/step/aggregation.hpp>

#include "catch.hpp"

#include <limits>
#include <string>
#include <vector>

using namespace infalign;

TEST_CASE("The weights of a token have the values computed by hand") {
  const batch_size total{.sequences = 4, .tokens = 10};
  CHECK(sequence_mean_of_token_sums{}.weight(5, total) == 0.25);
  CHECK(sequence_mean_of_token_sums{.length = 8}.weight(5, total) == 1. / 32);
  CHECK(sequence_mean_of_token_means{}.weight(5, total) == 0.05);
  CHECK(token_mean{}.weight(5, total) == 0.1);
}

TEST_CASE("The weights of all tokens add up to the mean length for sums, and to 1 for means") {
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

TEST_CASE("A fixed length that is not finite and above 0 is rejected") {
  const auto rejected = [](double length) {
    return error_of([&] { sequence_mean_of_token_sums{.length = length}.check(); });
  };
  const std::string expected = "sequence_mean_of_token_sums: expected a length finite and above 0, got ";
  CHECK(rejected(1024) == "no error");
  CHECK(rejected(0) == expected + "0");
  CHECK(rejected(-3) == expected + "-3");
  CHECK(rejected(std::numeric_limits<double>::quiet_NaN()) == expected + "NaN");
  CHECK(rejected(std::numeric_limits<double>::infinity()) == expected + "inf");
}

TEST_CASE("A batch's size is counted from its mask, after a check of its shapes") {
  const matrix<double> now = matrix<double>::Constant(3, 4, -1), mask{{1, 1, 0, 0}, {1, 0, 1, 1}, {0, 0, 0, 0}},
                       wide = matrix<double>::Ones(3, 5);
  const token_batch<double> batch{.log_probabilities = now, .mask = mask},
      wrong{.log_probabilities = now, .mask = wide};
  const auto is = [](const batch_size& size, double sequences, double tokens) {
    return size.sequences == sequences && size.tokens == tokens;
  };
  const double nan = std::numeric_limits<double>::quiet_NaN();
  CHECK(is(batch_size_of(batch), 3, 5));
  CHECK(is(batch_size_of(batch, array<double>{{1, nan, 1}}), 2, 2));
  CHECK(is(batch_size_of(batch, matrix<double>{{nan, nan}, {nan, 0}, {nan, nan}}), 1, 3));
  const std::string expected = "batch_size_of: expected mask of 3 x 4, got 3 x 5";
  CHECK(error_of([&] { batch_size_of(wrong); }) == expected);
  CHECK(error_of([&] { batch_size_of(wrong, array<double>{{1, 1, 1}}); }) == expected);
}
