// SPDX-License-Identifier: MIT
#include <infalign/testing/kl.hpp>

#include "arrays.hpp"

#include <cmath>

using namespace infalign;
using checks::divergence;
using checks::kl_estimate;

namespace {

/// An estimate from δ of each token, summed; and from δ of the response.
using estimate = double (*)(double);
kl_estimate of_tokens(estimate k) {
  return [k](const matrix<double>& now, const matrix<double>& reference, const matrix<double>& mask) -> array<double> {
    return (mask * (now - reference).unaryExpr(k)).rowwise().sum();
  };
}
kl_estimate of_responses(estimate k) {
  return [k](const matrix<double>& now, const matrix<double>& reference, const matrix<double>& mask) -> array<double> {
    return (mask * (now - reference)).rowwise().sum().unaryExpr(k);
  };
}

double k1(double d) {
  return d;
}
double k2(double d) {
  return d * d / 2;
}
double k3(double d) {
  return std::exp(-d) - 1 + d;
}
double k3_reversed(double d) {
  return std::exp(d) - 1 - d;
}
double forward(double d) {
  return -std::exp(-d) * d;
}

}  // namespace

// E[e^{−δ}] = 1 for tokens and for responses, so k1 and k3 have the mean KL(π ‖ π_ref) in both forms.
TEST_CASE("The means of the usual estimates") {
  for (const auto& f : {of_tokens(k1), of_responses(k1), of_tokens(k3), of_responses(k3)}) {
    CHECK(checks::estimates_kl(f));
    CHECK(!checks::estimates_kl(f, divergence::forward));
  }
  CHECK(!checks::estimates_kl(of_responses(k2)));
  CHECK(!checks::estimates_kl(of_responses(k3_reversed)));
  CHECK(checks::estimates_kl(of_responses(forward), divergence::forward));
  const auto r = checks::estimates_kl(of_responses(forward));
  CHECK(!r);
  CHECK(r.finding.find(", which is KL(reference || policy).") != std::string::npos);
  const auto negative = checks::estimates_kl(of_tokens([](double d) { return -d; }));
  CHECK(negative.finding.find(", which is -KL(policy || reference).") != std::string::npos);
}

TEST_CASE("The gradients of the usual estimates as losses") {
  CHECK(checks::has_kl_gradient(of_responses(k2)));
  CHECK(checks::has_kl_gradient(of_responses(k3), divergence::forward));
  CHECK(checks::has_kl_gradient(of_responses(k3)).finding.ends_with("It is the gradient of KL(reference || policy)."));
  CHECK(checks::has_kl_gradient(of_responses(k1)).finding ==
        "The expected gradient is 0, and not that of KL(policy || reference).");
  for (const auto& tokens : {of_tokens(k2), of_tokens(k3)})
    for (const auto d : {divergence::reverse, divergence::forward}) CHECK(!checks::has_kl_gradient(tokens, d));
  const auto doubled = checks::has_kl_gradient(of_responses([](double d) { return d * d; }));
  CHECK(doubled.finding ==
        "The expected gradient is 2 times that of KL(policy || reference), with the right direction.");
}

TEST_CASE("An estimate for each response is expected") {
  const kl_estimate one = [](const auto&, const auto&, const auto&) { return array<double>(array<double>::Zero(1)); };
  CHECK(checks::estimates_kl(one).finding ==
        "The function throws: kl_estimate: expected 5 estimates, one for each response, got 1");
}
