// SPDX-License-Identifier: MIT
#include <infalign/measure/kl_divergence.hpp>

#include "batches.hpp"

#include <cmath>
#include <vector>

using namespace infalign;
using Eigen::Index;

TEST_CASE("KL is the mean log-ratio of the responses") {
  const matrix<double> now{{-1, -2}, {-3, -5}}, reference{{-1.5, -2.5}, {-4, -4}};
  const mean_estimate kl = kl_divergence(now, reference);
  CHECK(kl.mean == near(0.25, 1e-15));  // ½ and 0
  CHECK(kl.standard_error == near(0.25, 1e-15));
  CHECK(kl_divergence(now.cast<float>(), reference.cast<float>()).mean == near(0.25, 1e-7));
}

// A policy over 3 responses: the mean over every sample of M = 2 is the KL itself.
TEST_CASE("The estimate of KL is unbiased") {
  const double p[] = {0.2, 0.3, 0.5}, q[] = {0.6, 0.3, 0.1};
  double kl = 0, mean = 0;
  for (int i = 0; i < 3; ++i) kl += p[i] * std::log(p[i] / q[i]);
  for (int i = 0; i < 3; ++i)
    for (int j = 0; j < 3; ++j)
      mean += p[i] * p[j] *
              kl_divergence(matrix<double>{{std::log(p[i]), std::log(p[j])}},
                            matrix<double>{{std::log(q[i]), std::log(q[j])}})
                  .mean;
  CHECK(mean == near(kl, 1e-15));
}

TEST_CASE("Log-probabilities that are not finite, empty samples and shapes that differ are rejected") {
  const matrix<double> two{{-1, -2}}, wide{{-1, -2, -3}}, tall{{-1, -2}, {-1, -2}}, bad{{-1, -INFINITY}};
  CHECK(error_of([&] { kl_divergence(two, wide); }) ==
        "kl_divergence: expected 2 columns of reference_log_probabilities, got 3");
  CHECK(error_of([&] { kl_divergence(two, tall); }) ==
        "kl_divergence: expected 1 rows of reference_log_probabilities, got 2");
  CHECK(error_of([&] { kl_divergence(two, bad); }) ==
        "kl_divergence: expected finite log-probabilities, got -inf at row 0, column 1");
  CHECK(error_of([] { kl_divergence(matrix<double>(3, 0), matrix<double>(3, 0)); }) ==
        "kl_divergence: expected at least one response to each prompt, got none");
}

// ---- From tokens

// Log-ratios of the responses by hand: 1.5, −0.5, 0, 0.25, 3, 2.
TEST_CASE("From tokens, KL is the mean over prompts of the mean sum of the unmasked log-ratios") {
  const matrix<double> now{{-1, -2}, {-1.5, -1}, {-3, -3}, {-0.75, -9}, {-1, -1}, {-2, -1}},
      reference{{-2, -2.5}, {-1, -1}, {-3, -3}, {-1, -1}, {-2, -3}, {-3, -2}},
      mask{{1, 1}, {1, 1}, {0, 0}, {1, 0}, {1, 1}, {1, 1}};
  const token_batch<double> batch{.log_probabilities = now, .reference_log_probabilities = reference, .mask = mask};
  // Rows of 2: ½, ⅛, 5/2. Their mean is 25/24.
  const array<double> means{{0.5, 0.125, 2.5}};
  const auto rows = kl_divergence(batch, 2);
  CHECK(rows.mean == near(25. / 24, 1e-15));
  CHECK(rows.standard_error == near(std::sqrt((means - 25. / 24).square().sum() / 2 / 3), 1e-15));
  CHECK(rows.low < rows.mean);
  CHECK(rows.high > rows.mean);
  CHECK(rows.prompts == 3);
  CHECK(kl_divergence(batch, 3).mean == near((1. / 3 + 5.25 / 3) / 2, 1e-15));
  // A flat batch: prompt 9 has responses 0, 2, 5 of mean 3.5/3; prompt −1 has 1, 3, 4 of mean 2.75/3.
  const auto flat = kl_divergence(batch, std::vector<int>{9, -1, 9, -1, -1, 9});
  CHECK(flat.mean == near((3.5 / 3 + 2.75 / 3) / 2, 1e-15));
  CHECK(flat.prompts == 2);
  // Prompts of unlike sizes count alike: 1.5, and the mean of the others.
  CHECK(kl_divergence(batch, Eigen::ArrayXi{{7, 0, 0, 0, 0, 0}}).mean == near((1.5 + 4.75 / 5) / 2, 1e-15));
}

TEMPLATE_TEST_CASE("Masked tokens of log 0 and NaN do not change the KL", "", float, double) {
  using S = TestType;
  const buffers<S> b(1, 4, 3, 70);  // more than one block of 64 tokens
  const double expected = kl_divergence(b.on_policy(), 3).mean;
  CHECK(std::isfinite(expected));
  for (const S padding : {-infinity<S>, missing<S>, std::numeric_limits<S>::lowest()}) {
    const matrix<S> now = (b.mask == 1).select(b.now, padding), reference = (b.mask == 1).select(b.reference, padding);
    const Eigen::Array<bool, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor> bits = b.mask == 1;
    const token_batch<S, bool> batch{.log_probabilities = now, .reference_log_probabilities = reference, .mask = bits};
    CHECK(kl_divergence(batch, 3).mean == expected);
    CHECK(kl_divergence(batch, std::vector<int>{0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3}).mean == expected);
  }
}

TEMPLATE_TEST_CASE("From tokens and from whole responses the KL is the same", "", float, double) {
  using S = TestType;
  const buffers<S> b(2, 5, 4, 130);
  const matrix<double> mask = b.mask.template cast<double>();
  const auto whole = [&](const matrix<S>& tokens) {
    const array<double> sums = (tokens.template cast<double>() * mask).rowwise().sum();
    return matrix<double>(Eigen::Map<const matrix<double>>(sums.data(), 5, 4));
  };
  const auto expected = kl_divergence(whole(b.now), whole(b.reference)), got = kl_divergence(b.on_policy(), 4);
  const double tolerance = 100 * static_cast<double>(epsilon<S>);
  CHECK(got.mean == near(expected.mean, tolerance));
  CHECK(got.standard_error == near(expected.standard_error, tolerance));
  // Views that it does not need are not read.
  auto with_old = b.on_policy();
  const matrix<S> old = matrix<S>::Constant(20, 130, missing<S>);
  with_old.old_log_probabilities = with_old.sampler_log_probabilities = old;
  CHECK(kl_divergence(with_old, 4).mean == got.mean);
}

TEST_CASE("A batch of tokens without a reference, of the wrong shape, or with log 0 that is not masked is rejected") {
  const buffers<> b(3);
  const std::string e = "kl_divergence: expected ";
  matrix<double> bad = b.now;
  bad(4, 1) = -INFINITY;  // never masked
  const auto change = [&](auto f) {
    auto batch = b.on_policy();
    f(batch);
    return error_of([&] { kl_divergence(batch, 3); });
  };
  const matrix<double> narrow = b.reference.leftCols(4), none(0, 5), probabilities = b.now.exp();
  CHECK(change([](auto&) {}) == "no error");
  CHECK(change([](auto& x) { x.reference_log_probabilities = {}; }) == e + "reference_log_probabilities, got none");
  CHECK(change([&](auto& x) { x.reference_log_probabilities = narrow; }) ==
        e + "reference_log_probabilities of 12 x 5, got 12 x 4");
  CHECK(change([&](auto& x) { x.log_probabilities = bad; }) ==
        e + "finite log_probabilities, got -inf at row 4, column 1");
  CHECK(change([&](auto& x) { x.log_probabilities = probabilities; }) ==
        e + "log-probabilities, which are at most 0, got positive numbers only, as probabilities are");
  CHECK(change([&](auto& x) { x.log_probabilities = none; }) == e + "at least one response, got none");
  for (const Index M : {0, -3, 5})
    CHECK(error_of([&] { kl_divergence(b.on_policy(), M); }) ==
          e + "a number of responses to each prompt that divides 12, got " + std::to_string(M));
  CHECK(error_of([&] {
          kl_divergence(b.on_policy(), std::vector<int>{1, 2});
        }) == e + "12 prompt indices, one for each response, got 2");
}
