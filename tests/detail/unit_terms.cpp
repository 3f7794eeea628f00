// SPDX-License-Identifier: MIT
// Terms of few tokens, computed by hand.
#include <infalign/detail/unit_terms.hpp>
#include <infalign/step/policy_loss.hpp>

#include "arrays.hpp"

#include <cmath>
#include <vector>

using namespace infalign;
using Eigen::Index;

namespace {

/// The logarithms of the numbers, as one response.
template <class S>
matrix<S> logs(std::vector<double> numbers) {
  matrix<S> result(1, static_cast<Index>(numbers.size()));
  for (std::size_t j = 0; j < numbers.size(); ++j)
    result(0, static_cast<Index>(j)) = static_cast<S>(std::log(numbers[j]));
  return result;
}

}  // namespace

TEMPLATE_TEST_CASE("The weights of a sampler are clamped, or 0 outside the band, by token or by response", "", float,
                   double) {
  using S = TestType;
  const matrix<S> now = logs<S>({0.1, 0.3, 0.6}), sampler = logs<S>({0.2, 0.2, 0.2});
  const auto weights = [&](sampler_mode mode, double floor, double cap) {  // of the ratios 1/2, 3/2 and 3
    const token_batch<S> batch{.log_probabilities = now,
                               .sampler_log_probabilities = sampler,
                               .sampler_weight_cap = cap,
                               .sampler_weight_floor = floor,
                               .sampler_weights = mode};
    const auto out = policy_loss{no_kl{}, reinforce{}, token_mean{}}(batch, array<S>{{S{-3}}});
    CHECK(out.loss == near(static_cast<double>((out.gradient * now).sum()), 1e-5));
    CHECK(out.metrics.clip_ratio_low == 0);  // nothing is clipped, and the ratio to the policy itself is 1
    CHECK(out.metrics.clip_ratio_high == 0);
    CHECK(out.metrics.ratio == 1);
    return out.gradient;
  };
  const auto is = [](const matrix<S>& got, const matrix<S>& expected) {
    return distance(got, expected) < 8 * epsilon<S>;
  };
  CHECK(is(weights(sampler_mode::token_truncate, 0.8, 2), {{S(0.8), S(1.5), S(2)}}));
  CHECK(is(weights(sampler_mode::token_mask, 0.8, 2), {{0, S(1.5), 0}}));
  CHECK(is(weights(sampler_mode::token_mask, 0, 2), {{S(0.5), S(1.5), 0}}));
  CHECK(is(weights(sampler_mode::sequence_truncate, 0, 2), {{2, 2, 2}}));  // the response's ratio is 9/4
  CHECK(is(weights(sampler_mode::sequence_truncate, 2.5, 3), {{S(2.5), S(2.5), S(2.5)}}));
  CHECK(is(weights(sampler_mode::sequence_truncate, 0, 3), {{S(2.25), S(2.25), S(2.25)}}));
  CHECK(is(weights(sampler_mode::sequence_mask, 0, 2), {{0, 0, 0}}));
  CHECK(is(weights(sampler_mode::sequence_mask, 2.5, 3), {{0, 0, 0}}));
  CHECK(is(weights(sampler_mode::sequence_mask, 0, 3), {{S(2.25), S(2.25), S(2.25)}}));
}

TEMPLATE_TEST_CASE("A clipped token has no slope, and is counted at its end of the clip", "", float, double) {
  using S = TestType;
  // The ratios of 70 tokens: 3 are above 1.2, 5 are below 0.8, and the others 1.1 and 0.9. (64 are computed together.)
  const Index T = 70;
  matrix<S> now = matrix<S>::Constant(1, T, S(-2)), old = now;
  const auto ratio_of = [](Index j) { return j % 30 == 7 ? 1.5 : j % 15 == 3 ? 0.5 : j % 2 ? 1.1 : 0.9; };
  for (Index j = 0; j < T; ++j) now(0, j) += static_cast<S>(std::log(ratio_of(j)));
  const token_batch<S> batch{.log_probabilities = now, .old_log_probabilities = old};
  for (const double advantage : {2., -2.}) {
    const auto out = policy_loss{no_kl{}, ppo_clip{.low = 0.2, .high = 0.2}, token_mean{}}(
        batch, array<S>{{static_cast<S>(advantage)}});
    double loss = 0, ratios = 0;
    int wrong = 0, high = 0, low = 0;
    for (Index j = 0; j < T; ++j) {
      const double rho = ratio_of(j);
      const bool clipped = advantage > 0 ? rho > 1.2 : rho < 0.8;
      loss -= advantage * (clipped ? (rho > 1 ? 1.2 : 0.8) : rho) / T;
      ratios += rho / T;
      high += clipped && rho > 1, low += clipped && rho < 1;
      const double slope = clipped ? 0 : -advantage * rho / T;
      wrong += !(std::abs(out.gradient(0, j) - slope) < 1e-6);
    }
    CHECK(wrong == 0);
    CHECK(out.loss == near(loss, 1e-6));
    CHECK(double{out.metrics.ratio} == near(ratios, 1e-6));
    CHECK(double{out.metrics.clip_ratio_high} == near(high / double(T), 1e-12));
    CHECK(double{out.metrics.clip_ratio_low} == near(low / double(T), 1e-12));
    CHECK(high + low > 2);
  }
}

TEST_CASE("A KL loss has its own ratio, which is extended in a straight line above e^20") {
  // δ = log π − log π_ref; k3 = e^−δ − 1 + δ.
  const matrix<double> delta{{0.5, -0.5, -25, 3}}, now = matrix<double>::Constant(1, 4, -40), reference = now - delta;
  const token_batch<double> batch{.log_probabilities = now, .reference_log_probabilities = reference};
  const auto out = policy_loss{k3_token_loss{.beta = 0.1}, reinforce{}}(batch, array<double>{{0}});
  double loss = 0;
  for (Index t = 0; t < 4; ++t) {
    const double d = delta(0, t), ratio = d < -20 ? std::exp(20) * (1 - 20 - d) : std::exp(-d);
    const double slope = d < -20 ? 1 - std::exp(20) : 1 - std::exp(-d);
    loss += 0.1 * (ratio - 1 + d);
    CHECK(out.gradient(0, t) == near(0.1 * slope, 1e-7));
  }
  CHECK(out.loss == near(loss, 1e-4));
}

TEST_CASE("A KL loss of a whole response adds nothing but itself") {
  const matrix<double> now{{-1, -2}}, reference{{-1.5, -1.8}};  // Δ = 0.3
  const token_batch<double> batch{.log_probabilities = now, .reference_log_probabilities = reference};
  const auto out = policy_loss{k3_loss{.beta = 2}, reinforce{}}(batch, array<double>{{0}});
  CHECK(out.loss == near(2 * (std::exp(-0.3) - 1 + 0.3), 1e-15));
  CHECK(distance(out.gradient, matrix<double>::Constant(1, 2, 2 * (1 - std::exp(-0.3)))) < 1e-14);
}

TEST_CASE("A response's gradient and loss must be finite") {
  const double inf = infinity<double>;
  CHECK(error_of([] { detail::check_response("f", matrix<double>{{1, 2}, {3, 4}}, 5, 1); }) == "no error");
  CHECK(error_of([&] { detail::check_response("f", matrix<double>{{1, inf}, {3, 4}}, 5, 1); }) == "no error");
  CHECK(error_of([&] {
          detail::check_response("f", matrix<double>{{1, 2}, {3, -inf}}, 5, 1);
        }) == "f: expected a finite gradient, got -inf at row 1, column 1");
  CHECK(error_of([&] {
          detail::check_response("f", matrix<double>{{1, 2}, {3, 4}}, inf, 1);
        }) == "f: expected a finite loss, got inf for response 1");
}
