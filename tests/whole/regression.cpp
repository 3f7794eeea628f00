// SPDX-License-Identifier: MIT
#include <infalign/infalign.hpp>

#include "arrays.hpp"

#include <cmath>
#include <random>

// Alignment as a regression: losses, gradients, and the policies at which they are least.

using namespace infalign;
using Eigen::Index;

namespace {

/// A flat batch of B responses of up to T tokens, with holes.
struct responses {
  Index B, T;
  matrix<double> now, reference, mask;
  array<double> target;

  responses(Index rows, Index columns, unsigned seed) : B(rows), T(columns) {
    std::mt19937 random(seed);
    const auto uniform = [&](double low, double high) {
      return low + (high - low) * static_cast<double>(random()) / 0x1p32;
    };
    now = table_of<double>(B, T, [&] { return uniform(-3, 0); });
    reference = table_of<double>(B, T, [&] { return uniform(-3, 0); });
    mask = table_of<double>(B, T, [&] { return random() % 4 > 0; });
    target = table_of<double>(B, 1, [&] { return uniform(-1, 1); }).col(0);
  }
  /// δ of each response if the log-probabilities are x.
  array<double> delta(const matrix<double>& x) const { return (mask * (x - reference)).rowwise().sum(); }
  template <class Loss>
  matrix<double> derivative(const Loss& loss) const {
    matrix<double> result(B, T);
    for (Index k = 0; k < result.size(); ++k) {
      matrix<double> up = now, down = now;
      up.data()[k] += 1e-5, down.data()[k] -= 1e-5;
      result.data()[k] = (loss(delta(up)) - loss(delta(down))) / 2e-5;
    }
    return result;
  }
};

template <real_scalar S>
step_result<S> run(const responses& r, const auto& step, const auto& rewards) {
  const matrix<S> now = r.now.cast<S>(), reference = r.reference.cast<S>(), mask = r.mask.cast<S>();
  const token_batch<S> batch{.log_probabilities = now, .reference_log_probabilities = reference, .mask = mask};
  return step(batch, rewards);
}

}  // namespace

// QRPO: the mean over responses of (T − βδ)², which is 2β times the mean of (βδ − T)²/(2β).
TEMPLATE_TEST_CASE("The regression has the loss of QRPO over 2β, and the gradient is its derivative", "", float,
                   double) {
  using S = TestType;
  const responses r(6, 70, 1);
  for (const double beta : {0.1, 0.7, 30.}) {
    const auto loss = [&](const array<double>& delta) {
      return (r.target - beta * delta).square().mean() / (2 * beta);
    };
    const policy_gradient step{no_kl{}, no_baseline{}, regression{beta}};
    const auto out = run<S>(r, step, array<S>(r.target.cast<S>()));
    const matrix<double> derivative = r.derivative(loss);
    CHECK(out.loss == near(loss(r.delta(r.now)), 60 * epsilon<S> * loss(r.delta(r.now))));
    CHECK(distance(out.gradient, derivative) < (1e-8 + 60 * epsilon<S>)*derivative.matrix().norm());
    CHECK(((r.mask == 1) || (out.gradient == 0).template cast<double>() == 1).all());
    CHECK(out.metrics.kl == near(r.delta(r.now).mean(), 100 * epsilon<S>));
    const auto apart = policy_loss{no_kl{}, regression{beta}}(
        token_batch<double>{.log_probabilities = r.now, .reference_log_probabilities = r.reference, .mask = r.mask},
        r.target);
    CHECK(distance(apart.gradient, derivative) < 1e-8 * derivative.matrix().norm());
  }
}

TEST_CASE("A regression needs the reference, and no other policy's log-probabilities change it") {
  const responses r(4, 5, 2);
  const policy_gradient step{no_kl{}, no_baseline{}, regression{0.5}};
  const token_batch<double> without{.log_probabilities = r.now};
  CHECK(error_of([&] { step(without, r.target); }) ==
        "policy_gradient: expected reference_log_probabilities for the regression, got none");
  const matrix<double> old = r.reference - 0.3;
  const token_batch<double> batch{.log_probabilities = r.now, .reference_log_probabilities = r.reference},
      off_policy{.log_probabilities = r.now, .reference_log_probabilities = r.reference, .old_log_probabilities = old};
  const auto a = step(batch, r.target), b = step(off_policy, r.target);
  CHECK(a.loss == b.loss);
  CHECK(same(a.gradient, b.gradient));
}

// The squares of (R_m − βδ_m) − (R_k − βδ_k) over all pairs of a group of M, over 2βM·B; for leave-one-out over 2β(M − 1)·B.
TEST_CASE("k1 in the reward and a group mean have the gradient of the regression on all pairs in a group") {
  const Index P = 2, M = 4;
  const responses r(P * M, 6, 3);
  const double beta = 0.4;
  const auto over = [&](double pairs) {
    return [&, pairs](const array<double>& delta) {
      const array<double> x = r.target - beta * delta;
      double sum = 0;
      for (Index p = 0; p < P; ++p)
        for (Index m = 0; m < M; ++m)
          for (Index k = 0; k < m; ++k) sum += std::pow(x[p * M + m] - x[p * M + k], 2);
      return sum / (2 * beta * pairs * static_cast<double>(P * M));
    };
  };
  const matrix<double> rewards = r.target.reshaped<Eigen::RowMajor>(P, M);
  const auto by_mean = run<double>(r, policy_gradient{k1_in_reward{beta}, group_mean{}}, rewards),
             by_others = run<double>(r, policy_gradient{k1_in_reward{beta}, leave_one_out{}}, rewards);
  CHECK(distance(by_mean.gradient, r.derivative(over(M))) < 1e-8);
  CHECK(distance(by_others.gradient, r.derivative(over(M - 1))) < 1e-8);
}

namespace {

/// The policy at which a step's loss over these responses is least, by gradient descent on softmax logits. `count`: how
/// often each response is in the batch.
array<double> minimum(const std::vector<int>& count, double beta, const auto& gradient_of) {
  const Index n = static_cast<Index>(count.size());
  std::vector<Index> rows;
  for (Index y = 0; y < n; ++y)
    rows.insert(rows.end(), static_cast<std::size_t>(count[static_cast<std::size_t>(y)]), y);
  const auto B = static_cast<Index>(rows.size());
  array<double> policy = array<double>::Constant(n, 1 / static_cast<double>(n)), logits = policy.log();
  const matrix<double> reference = matrix<double>::Constant(B, 1, logits[0]);
  matrix<double> now(B, 1);
  for (int i = 0; i < 3000; ++i) {
    for (Index b = 0; b < B; ++b) now(b, 0) = std::log(policy[rows[static_cast<std::size_t>(b)]]);
    const matrix<double> g =
        gradient_of(token_batch<double>{.log_probabilities = now, .reference_log_probabilities = reference}, rows);
    logits += g.sum() / beta * policy;
    for (Index b = 0; b < B; ++b) logits[rows[static_cast<std::size_t>(b)]] -= g(b, 0) / beta;
    policy = (logits - logits.maxCoeff()).exp();
    policy /= policy.sum();
  }
  return policy;
}

const array<double> phi{{.1, .3, .5, .7, .9}};
constexpr double beta = .2;

}  // namespace

// π* ∝ e^{Φ/β}. With log Ẑ = log Z + ε the minimum has x = log π/π* with x = −ε − W₀(c·π*/μ·e^{−ε}), W₀ Lambert's function and
// c such that the probabilities sum to 1. Values by solving that equation.
TEST_CASE("Off-policy, the minimum of a regression is the optimal policy if and only if log Z is right") {
  const double log_z = std::log((phi / beta).exp().mean());
  CHECK(log_z == near(3.342476483503, 1e-12));
  CHECK(beta * log_z == near(0.668495296701, 1e-12));
  const policy_gradient step{no_kl{}, no_baseline{}, regression{beta}};
  const auto trained = [&](const std::vector<int>& count, double error) {
    return minimum(count, beta, [&](const auto& batch, const std::vector<Index>& rows) {
      array<double> targets(static_cast<Index>(rows.size()));
      for (Index b = 0; b < targets.size(); ++b)
        targets[b] = phi[rows[static_cast<std::size_t>(b)]] - beta * (log_z + error);
      return step(batch, targets).gradient;
    });
  };
  const array<double> best{{.01165623095604, .03168492079612, .08612854443627, .2341216572527, .6364086465588}};
  const std::vector<int> uniform{1, 1, 1, 1, 1}, skewed{8, 6, 3, 2, 1};
  CHECK(distance(trained(uniform, 0), best) < 1e-11);
  CHECK(distance(trained(skewed, 0), best) < 1e-11);
  CHECK(distance(trained(uniform, -std::log(2)),
                 array<double>{{.0223782679014, .0570912075376, .134674585153, .28045959715, .505396342258}}) < 1e-10);
  CHECK(distance(trained(uniform, 0.2), array<double>{{.00957967366821, .0262127521583, .0725771646444, .208196950966,
                                                       .683433458563}}) < 1e-10);
  CHECK(distance(trained(skewed, -std::log(2)),
                 array<double>{{.023152059514, .0618308703518, .152574657771, .319756917634, .44268549473}}) < 1e-10);
}

TEST_CASE("Off-policy, k1 in the reward and a group mean have the optimal policy as minimum, without Z") {
  const policy_gradient step{k1_in_reward{beta}, group_mean{}};
  for (const std::vector<int>& count : {std::vector<int>{1, 1, 1, 1, 1}, {8, 6, 3, 2, 1}}) {
    const auto policy = minimum(count, beta, [&](const auto& batch, const std::vector<Index>& rows) {
      matrix<double> rewards(1, static_cast<Index>(rows.size()));
      for (Index b = 0; b < rewards.cols(); ++b) rewards(0, b) = phi[rows[static_cast<std::size_t>(b)]];
      return step(batch, rewards).gradient;
    });
    const array<double> best = (phi / beta).exp() / (phi / beta).exp().sum();
    CHECK(distance(policy, best) < 1e-9);
  }
}
