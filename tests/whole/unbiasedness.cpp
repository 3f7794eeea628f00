// SPDX-License-Identifier: MIT
#include <infalign/calibration/calibrate.hpp>
#include <infalign/measure/exact_win_rate.hpp>
#include <infalign/step/policy_gradient.hpp>
#include <infalign/testing/unbiased_step.hpp>

#include "arrays.hpp"

#include <algorithm>
#include <cmath>
#include <random>
#include <utility>
#include <vector>

// The expectation of a step, without sampling: every group of responses of a small autoregressive softmax policy is
// enumerated. The gradient by the log-probabilities is back-propagated to the logits and weighted by the probability of
// the group. Minus the sum is compared with the gradient of the objective that the step maximises.

using namespace infalign;
using Eigen::Index;
using table = matrix<double>;  // one number for each (prefix, token)
using checks::drawn_from;

namespace {

struct setting : checks::small_policy {
  double beta = 0.3;

  using checks::small_policy::small_policy;
  Index largest_group() const { return size() > 10 ? 3 : 4; }  // small enough to enumerate
  table objective_gradient() const { return reward_gradient() - beta * kl_gradient(); }
};

/// ∂f/∂logits by central differences, extrapolated twice: an error of order h⁶.
template <class F>
table numeric_gradient(const setting& s, F f) {
  const auto slope = [&](Index k, double h) {
    table up = s.logits, down = s.logits;
    up.data()[k] += h;
    down.data()[k] -= h;
    return (f(setting::log_softmax(up)) - f(setting::log_softmax(down))) / (2 * h);
  };
  table g(s.logits.rows(), s.logits.cols());
  for (Index k = 0; k < g.size(); ++k) {
    const double h = 1e-2, one = slope(k, h), two = slope(k, h / 2), three = slope(k, h / 4);
    g.data()[k] = (64 * three - 20 * two + one) / 45;
  }
  return g;
}

/// E[−d loss / d logits] of a step on P prompts of M responses each, all to the same policy.
template <class Step>
table ascent(const setting& s, const Step& step, Index P, Index M, drawn_from source = drawn_from::policy) {
  const auto gradient = [&](const checks::token_case& c) -> table {
    auto batch = c.batch();
    batch.sampler_weight_cap = 1e9;  // does not bind
    return step(batch, table(c.rewards.reshaped<Eigen::RowMajor>(P, M))).gradient;
  };
  return checks::expected_ascent(s, gradient, P, M, source);
}

/// E of f over groups of n, as a function of the policy.
template <class F>
auto expectation(const setting& s, Index n, F f) {
  return [&s, n, f](const table& policy) {
    double sum = 0;
    checks::for_each_group(s.probability(policy), n,
                           [&](const auto& group, double weight) { sum += weight * f(group); });
    return sum;
  };
}

double largest(const setting& s, const std::vector<Index>& group) {
  double r = s.reward[group[0]];
  for (Index y : group) r = std::max(r, s.reward[y]);
  return r;
}
double smallest(const setting& s, const std::vector<Index>& group) {
  double r = s.reward[group[0]];
  for (Index y : group) r = std::min(r, s.reward[y]);
  return r;
}

/// Responses of 1 to 4, 1 to 3 and 1 to 2 tokens.
std::vector<setting> settings() {
  return {setting(2, 4, 1), setting(3, 3, 2), setting(3, 2, 3)};
}

}  // namespace

TEST_CASE("The gradient of J in this file is the derivative of J") {
  for (const setting& s : settings()) {
    CHECK(s.probability(s.policy).sum() == near(1, 1e-14));
    CHECK(s.length().minCoeff() == 1);
    CHECK(s.length().maxCoeff() == static_cast<double>(s.longest));
    const auto J = [&](const table& policy) {
      const array<double> log_p = s.log_of(policy);
      return (log_p.exp() * (s.reward - s.beta * (log_p - s.log_of(s.reference)))).sum();
    };
    CHECK(distance(s.objective_gradient(), numeric_gradient(s, J)) < 1e-10);
    CHECK(s.reward_gradient().matrix().norm() > 0.1);
    CHECK(s.kl_gradient().matrix().norm() > 0.1);
  }
}

TEST_CASE("With an unbiased estimator the expected step is the gradient of J") {
  for (const setting& s : settings())
    for (Index M = 1; M <= s.largest_group(); ++M) {
      const auto unbiased = [&](const auto& estimator) {
        CHECK(distance(ascent(s, policy_gradient{no_kl{}, estimator}, 1, M), s.reward_gradient()) < 1e-12);
        const table exact = s.objective_gradient();
        CHECK(distance(ascent(s, policy_gradient{k1_in_reward{s.beta}, estimator}, 1, M), exact) < 1e-12);
        CHECK(distance(ascent(s, policy_gradient{k1_reward_to_go{s.beta}, estimator}, 1, M), exact) < 1e-12);
        CHECK(distance(ascent(s, policy_gradient{k2_loss{s.beta}, estimator}, 1, M), exact) < 1e-12);
      };
      unbiased(no_baseline{});
      if (M > 1) unbiased(leave_one_out{});
    }
  const setting s(2, 3, 4);  // several prompts
  CHECK(distance(ascent(s, policy_gradient{k1_in_reward{s.beta}, leave_one_out{}}, 2, 2), s.objective_gradient()) <
        1e-12);
}

// The mean of (βδ − R + c)·∇log π is −∇J for any c, because the mean of ∇log π is 0.
TEST_CASE("On-policy, the expected step of a regression is the gradient of J, whatever log Z") {
  for (const setting& s : settings())
    for (const double log_z : {0., 1.3, 7.}) {
      const policy_gradient step{no_kl{}, no_baseline{}, regression{s.beta}};
      const auto less_z = [&](const auto& batch, const table& rewards) {
        return step(batch, table(rewards - s.beta * log_z));
      };
      CHECK(distance(ascent(s, less_z, 1, 2), s.objective_gradient()) < 1e-12);
    }
}

// In the mean of n responses each has weight 1/n: E[(X_i − mean X)·∇log π(y_i)] = (1 − 1/n)·E[X·∇log π]. With k1 in the
// reward X = R − β·δ, so the factor applies to the KL too. Reward-to-go adds β·Σ_{s<t} δ_s afterwards, whose expected
// gradient is 0, so the factor is equal. A KL loss does not go through the estimator: its factor is 1.
TEST_CASE("A mean that includes the response itself scales the gradient by 1 - 1/n") {
  const setting s(3, 2, 5);
  const auto scaled = [&](const auto& estimator, Index P, Index M, double factor) {
    CHECK(distance(ascent(s, policy_gradient{no_kl{}, estimator}, P, M), factor * s.reward_gradient()) < 1e-12);
    const table all = factor * s.objective_gradient(), reward_only = all - (1 - factor) * s.beta * s.kl_gradient();
    CHECK(distance(ascent(s, policy_gradient{k1_in_reward{s.beta}, estimator}, P, M), all) < 1e-12);
    CHECK(distance(ascent(s, policy_gradient{k1_reward_to_go{s.beta}, estimator}, P, M), all) < 1e-12);
    CHECK(distance(ascent(s, policy_gradient{k2_loss{s.beta}, estimator}, P, M), reward_only) < 1e-12);
  };
  for (Index M = 2; M <= 4; ++M) scaled(group_mean{}, 1, M, 1 - 1 / static_cast<double>(M));
  scaled(group_mean{}, 2, 2, 0.5);
  scaled(batch_mean{}, 1, 3, 1 - 1. / 3);
  scaled(batch_mean{}, 2, 2, 0.75);
  scaled(batch_mean{}, 3, 1, 1 - 1. / 3);
}

TEST_CASE("The k3 loss has the gradient of the forward KL(reference, policy)") {
  for (const setting& s : settings()) {
    const auto forward = [&](const table& policy) {
      const array<double> log_ref = s.log_of(s.reference);
      return (log_ref.exp() * (log_ref - s.log_of(policy))).sum();
    };
    CHECK(distance(s.forward_kl_gradient(), numeric_gradient(s, forward)) < 1e-10);
    const policy_gradient step{k3_loss{s.beta}, leave_one_out{}};
    CHECK(distance(ascent(s, step, 1, 2), s.reward_gradient() - s.beta * s.forward_kl_gradient()) < 1e-12);
  }
}

// E[Σ_t k(δ_t)] with constant probabilities of the prefixes is Σ over prefixes of P(prefix)·KL at the prefix, whose
// gradient by that prefix's logits is π·(δ − KL) for k2, and π − π_ref (of the forward KL) for k3.
TEST_CASE("Token KL losses have the KL gradient of each prefix, which is not the gradient of the whole KL") {
  for (const auto& [vocabulary, longest] : {std::pair<Index, Index>{2, 4}, {3, 3}, {3, 1}}) {
    const setting s(vocabulary, longest, 6);
    array<double> reached = array<double>::Zero(s.prefixes);
    for (Index y = 0; y < s.size(); ++y)
      for (auto [prefix, token] : s.response(y)) reached[prefix] += s.probability(s.policy)[y];
    const table p = s.policy.exp(), delta = s.policy - s.reference;
    const table k2 = (p * (delta.colwise() - (p * delta).rowwise().sum())).colwise() * reached;
    const table k3 = (p - s.reference.exp()).colwise() * reached;

    const table with_k2 = ascent(s, policy_gradient{k2_token_loss{s.beta}, no_baseline{}}, 1, 1);
    const table with_k3 = ascent(s, policy_gradient{k3_token_loss{s.beta}, no_baseline{}}, 1, 1);
    CHECK(distance(with_k2, s.reward_gradient() - s.beta * k2) < 1e-12);
    CHECK(distance(with_k3, s.reward_gradient() - s.beta * k3) < 1e-12);
    const double k2_error = distance(with_k2, s.reward_gradient() - s.beta * s.kl_gradient());
    const double k3_error = distance(with_k3, s.reward_gradient() - s.beta * s.forward_kl_gradient());
    if (longest == 1) {
      CHECK(k2_error < 1e-12);
      CHECK(k3_error < 1e-12);
    } else {
      CHECK(k2_error > 1e-3);
      CHECK(k3_error > 1e-3);
    }
  }
}

// A_i = (R_i − mean)/(s + ε), with the KL subtracted afterwards. The objective is not E[R], nor a multiple of it.
TEST_CASE("Dividing by the group's standard deviation changes the objective") {
  const setting s(3, 2, 7);
  const Index M = 3;
  array<double> weight = array<double>::Zero(s.size());
  checks::for_each_group(s.probability(s.policy), M, [&](const auto& group, double probability) {
    double mean = 0, squares = 0;
    for (Index y : group) mean += s.reward[y] / 3;
    for (Index y : group) squares += (s.reward[y] - mean) * (s.reward[y] - mean);
    for (Index y : group) weight[y] += probability / 3 * (s.reward[y] - mean) / (std::sqrt(squares / 2) + 0.1);
  });
  const table own = s.scores(weight), plain = s.reward_gradient();
  const group_standardized estimator{.epsilon = 0.1};
  CHECK(distance(ascent(s, policy_gradient{no_kl{}, estimator}, 1, M), own) < 1e-12);
  CHECK(distance(ascent(s, policy_gradient{k1_in_reward{s.beta}, estimator}, 1, M), own - s.beta * s.kl_gradient()) <
        1e-12);
  const double best_multiple = (own * plain).sum() / plain.square().sum();
  CHECK(distance(own, best_multiple * plain) > 0.02 * own.matrix().norm());
}

// With tokens weighted by 1/L: E[R/L·∇log π] = ∇E[R/L]. A baseline b subtracts b·∇E[1/L], which is not zero. Weighted by 1/ΣL over a pair: 2·E[(R − R')/(L + L')·∇log π(y)].
TEST_CASE("Token-weighted means depend on the length, not on the reward alone") {
  const setting s(2, 4, 8);
  const array<double> p = s.probability(s.policy);
  const auto per_length = [&](const array<double>& x) {
    return numeric_gradient(s, [&](const table& policy) { return (s.probability(policy) * x / s.length()).sum(); });
  };
  const policy_gradient means{no_kl{}, no_baseline{}, reinforce{}, sequence_mean_of_token_means{}};
  const policy_gradient means_loo{no_kl{}, leave_one_out{}, reinforce{}, sequence_mean_of_token_means{}};
  const policy_gradient tokens{no_kl{}, no_baseline{}, reinforce{}, token_mean{}};
  const policy_gradient tokens_loo{no_kl{}, leave_one_out{}, reinforce{}, token_mean{}};
  const table by_length = per_length(s.reward);
  const table ones = per_length(array<double>::Ones(s.size()));
  CHECK(distance(ascent(s, means, 1, 3), by_length) < 1e-10);
  CHECK(distance(ascent(s, means, 1, 3), s.scores(p * s.reward / s.length())) < 1e-12);
  CHECK(distance(ascent(s, means_loo, 1, 3), by_length - (p * s.reward).sum() * ones) < 1e-10);
  CHECK(distance(ascent(s, tokens, 1, 1), by_length) < 1e-10);

  array<double> pair = array<double>::Zero(s.size());
  for (Index y = 0; y < s.size(); ++y)
    for (Index z = 0; z < s.size(); ++z)
      pair[y] += 2 * p[y] * p[z] * (s.reward[y] - s.reward[z]) / (s.length()[y] + s.length()[z]);
  CHECK(distance(ascent(s, tokens_loo, 1, 2), s.scores(pair)) < 1e-12);

  const table exact = s.reward_gradient();
  for (const table& biased : {ascent(s, means_loo, 1, 2), ascent(s, tokens_loo, 1, 2)}) {
    const double best_multiple = (biased * exact).sum() / exact.square().sum();
    CHECK(distance(biased, best_multiple * exact) > 0.02 * biased.matrix().norm());
  }
}

TEST_CASE("Off-policy, PPO's clip has the gradient of its own objective, which is not that of J") {
  const setting s(3, 3, 9);
  const array<double> from = s.probability(s.old);
  int low = 0, high = 0;
  const auto clipped =
      [&](const table& policy) {  // Σ over y, z of π_old(y)·π_old(z)·Σ_t min(ρA, clip(ρ)·A), A = R − R'
        double sum = 0;
        low = high = 0;
        for (Index y = 0; y < s.size(); ++y)
          for (Index z = 0; z < s.size(); ++z)
            for (auto [prefix, token] : s.response(y)) {
              const double A = s.reward[y] - s.reward[z], rho = std::exp(policy(prefix, token) - s.old(prefix, token));
              sum += from[y] * from[z] * std::min(rho * A, std::clamp(rho, 0.9, 1.2) * A);
              low += A < 0 && rho < 0.9;
              high += A > 0 && rho > 1.2;
            }
        return sum;
      };
  const policy_gradient step{no_kl{}, leave_one_out{}, ppo_clip{.low = 0.1, .high = 0.2}};
  const table expected = ascent(s, step, 1, 2, drawn_from::old);
  CHECK(distance(expected, numeric_gradient(s, clipped)) < 1e-10);
  CHECK(low > 10);
  CHECK(high > 10);
  CHECK(distance(expected, s.reward_gradient()) > 0.05);
}

// ρ(y) = π(y)/π_old(y), or π/π_sampler once the sampler's weight π_old/π_sampler is multiplied in: E_old[ρ·f] = E_π[f].
// A leave-one-out baseline is unbiased here too, because E_old[ρ·∇log π] = 0 for any policy of the others.
TEST_CASE("Off-policy, the unclipped sequence ratio is unbiased, for responses of the old policy and of the sampler") {
  const sequence_clip unclipped{.low = 1, .high = 1e9};
  for (const setting& s : settings())
    for (auto source : {drawn_from::old, drawn_from::sampler}) {
      const Index M = s.largest_group();
      const auto step = [&](const auto& kl, const auto& estimator) {
        return ascent(s, policy_gradient{kl, estimator, unclipped}, 1, M, source);
      };
      const double factor = 1 - 1 / static_cast<double>(M);
      CHECK(distance(step(no_kl{}, leave_one_out{}), s.reward_gradient()) < 1e-12);
      CHECK(distance(step(k1_in_reward{s.beta}, no_baseline{}), s.objective_gradient()) < 1e-12);
      CHECK(distance(step(k1_in_reward{s.beta}, leave_one_out{}), s.objective_gradient()) < 1e-12);
      CHECK(distance(step(k1_in_reward{s.beta}, group_mean{}), factor * s.objective_gradient()) < 1e-12);
      CHECK(distance(step(k2_loss{s.beta}, leave_one_out{}), s.objective_gradient()) < 1e-12);
      CHECK(distance(step(k3_loss{s.beta}, leave_one_out{}), s.reward_gradient() - s.beta * s.forward_kl_gradient()) <
            1e-12);
    }
}

TEST_CASE("Off-policy, the unclipped token ratio of PPO is unbiased only for responses of one token") {
  for (Index longest : {1, 2}) {
    const setting s(3, longest, 10);
    const policy_gradient step{k1_in_reward{s.beta}, leave_one_out{}, ppo_clip{.low = 1, .high = 1e9}};
    for (auto source : {drawn_from::old, drawn_from::sampler}) {
      const double error = distance(ascent(s, step, 1, 2, source), s.objective_gradient());
      if (longest == 1)
        CHECK(error < 1e-12);
      else
        CHECK(error > 1e-2);
    }
  }
}

TEST_CASE("Credit for the best of n has the gradient of the expected maximum of n rewards") {
  for (const setting& s : {setting(3, 2, 11), setting(2, 4, 11)})
    for (Index M = 2; M <= s.largest_group(); ++M)
      for (Index n = 2; n <= M; ++n) {
        const int N = static_cast<int>(n);
        const table max = numeric_gradient(s, expectation(s, n, [&](auto& g) { return largest(s, g); }));
        const table min = numeric_gradient(s, expectation(s, n, [&](auto& g) { return smallest(s, g); }));
        array<double> score = array<double>::Zero(s.size());  // E[max·Σ_i ∇log π(y_i)]
        checks::for_each_group(s.probability(s.policy), n, [&](const auto& group, double weight) {
          for (Index y : group) score[y] += weight * largest(s, group);
        });
        const double factor = 1 - static_cast<double>(n) / static_cast<double>(M);
        const auto step = [&](const auto& estimator) { return ascent(s, policy_gradient{no_kl{}, estimator}, 1, M); };
        CHECK(distance(step(max_at_n{N}), s.scores(score)) < 1e-12);
        CHECK(distance(step(max_at_n{N}), max) < 1e-10);
        CHECK(distance(step(min_at_n{N}), min) < 1e-10);
        CHECK(distance(step(centered_max_at_n{N}), factor * s.scores(score)) < 1e-12);
        CHECK(max.matrix().norm() > 0.05);
      }
}

TEST_CASE("Credit for any ordered choice among n has the gradient of the expected reward of what is chosen") {
  const setting s(3, 2, 21);
  const array<double> soft = order_weights(soft_best_of{3, 2}), median{{0, 1, 0}}, any{{0.5, -1, 2}};
  for (const array<double>& weight : {soft, median, any}) {
    const table expected = numeric_gradient(s, expectation(s, 3, [&](const auto& group) {
                                              array<double> r(3);
                                              for (Index k = 0; k < 3; ++k)
                                                r[k] = s.reward[group[static_cast<std::size_t>(k)]];
                                              std::sort(r.begin(), r.end());
                                              return (weight * r).sum();
                                            }));
    for (Index M = 3; M <= s.largest_group(); ++M)
      for (const auto baseline : {set_baseline::none, set_baseline::others}) {
        const policy_gradient step{no_kl{}, order_weighted{weight, baseline}};
        CHECK(distance(ascent(s, step, 1, M), expected) < 1e-10);
      }
  }
}

// The win rate of a soft choice of the policy against a soft choice of the reference: E[f(S)], f the weighted mean of win
// probabilities in order.
TEST_CASE("Credit for a soft choice on win probabilities has the gradient of its win rate") {
  const setting s(3, 2, 22);
  const soft_best_of both{3, 4};
  const array<double> reference = s.log_of(s.reference).exp();
  array<double> wins(s.size());
  for (Index y = 0; y < s.size(); ++y) {
    const double below = (s.reward < s.reward[y]).select(reference, 0).sum(),
                 up_to = (s.reward <= s.reward[y]).select(reference, 0).sum();
    wins[y] = 0.5 * (both.cdf(std::min(below, 1.0)) + both.cdf(std::min(up_to, 1.0)));
  }
  const table expected = numeric_gradient(
      s, [&](const table& policy) { return exact_win_rate(s.reward, s.log_of(policy).exp(), reference, both); });
  setting with_wins = s;
  with_wins.reward = wins;
  const policy_gradient step{no_kl{}, order_weighted{order_weights(both)}};
  CHECK(distance(ascent(with_wins, step, 1, 3), expected) < 1e-9);
  CHECK(expected.matrix().norm() > 0.05);
}

// The gradient of Σ over k = 1, …, M of E[max of k]/k, which is that of ∫ log P(R > t) dt but for terms of order M.
TEST_CASE("MaxRL has the gradient of the sum of E[max of k]/k, whatever its constant") {
  setting s(3, 2, 23);
  s.reward = s.reward - s.reward.minCoeff();
  for (Index M = 1; M <= s.largest_group(); ++M) {
    table expected = table::Zero(s.logits.rows(), s.logits.cols());
    for (Index k = 1; k <= M; ++k)
      expected += numeric_gradient(s, expectation(s, k, [&](const auto& group) { return largest(s, group); })) /
                  static_cast<double>(k);
    for (const double constant : {0., 1.})
      CHECK(distance(ascent(s, policy_gradient{no_kl{}, max_rl{constant}}, 1, M), expected) < 1e-10);
  }
}

// The others of a group are draws of π_old, and the ratio of a response corrects only that response. For n = 2 the step
// is 2·∇_π E[max(R(y), R(z))] with y ~ π and z ~ π_old.
TEST_CASE("Off-policy, credit for the best of n corrects the response itself, not the others of its group") {
  const setting s(3, 2, 14);
  const table expected =
      ascent(s, policy_gradient{no_kl{}, max_at_n{2}, sequence_clip{.low = 1, .high = 1e9}}, 1, 3, drawn_from::old);
  const array<double> old = s.probability(s.old);
  const table against_old = numeric_gradient(s, [&](const table& policy) {
    const array<double> p = s.probability(policy);
    double sum = 0;
    for (Index y = 0; y < s.size(); ++y)
      for (Index z = 0; z < s.size(); ++z) sum += 2 * p[y] * old[z] * std::max(s.reward[y], s.reward[z]);
    return sum;
  });
  const table on_policy = numeric_gradient(s, expectation(s, 2, [&](auto& group) { return largest(s, group); }));
  CHECK(distance(expected, against_old) < 1e-10);
  CHECK(distance(expected, on_policy) > 1e-2);
}

// The reference policy is a list of K responses, uniform, so that it ties with the policy everywhere. With levels k of
// the reward, policy CDF P_k and reference CDF Q_k: W = Σ_k (G(P_k) − G(P_{k−1}))·w_k, w_k = ½(G(Q_{k−1}) + G(Q_k)),
// hence ∇W = Σ_k g(P_k)·(w_k − w_{k+1})·∇P_k, and ∇P_k is the sum of π(y)·∇log π(y) over the responses up to level k.
TEST_CASE("With win probabilities, credit for the best of n has the gradient of the best-of-n win rate") {
  const auto check = [](const auto& how, auto credit, unsigned seed) {
    setting s(3, 2, seed);
    std::vector<double> drawn_rewards;
    array<double> count(s.size());
    for (Index y = 0; y < s.size(); ++y) {
      count[y] = static_cast<double>(1 + (3 * y + seed) % 4);
      drawn_rewards.insert(drawn_rewards.end(), static_cast<std::size_t>(count[y]), s.reward[y]);
    }
    const array<double> q = count / count.sum();
    table mass = table::Zero(s.prefixes, s.vocabulary);
    for (Index y = 0; y < s.size(); ++y)
      for (auto [prefix, token] : s.response(y)) mass(prefix, token) += q[y];
    s.reference = (mass.colwise() / mass.rowwise().sum()).log();
    REQUIRE((s.probability(s.reference) - q).matrix().norm() < 1e-15);

    const array<double> raw = s.reward, p = s.probability(s.policy);
    std::vector<double> levels(raw.begin(), raw.end());
    std::sort(levels.begin(), levels.end());
    levels.erase(std::unique(levels.begin(), levels.end()), levels.end());
    REQUIRE(levels.size() > 2);
    REQUIRE(std::ssize(levels) < s.size());  // ties between responses too
    const auto cdf = [&](const array<double>& of, double level) { return (raw <= level).select(of, 0.0).sum(); };
    const auto win = [&](std::size_t k) {
      const double below = k > 0 ? how.cdf(cdf(q, levels[k - 1])) : 0;
      return (below + how.cdf(std::min(1.0, cdf(q, levels[k])))) / 2;
    };
    table win_rate = table::Zero(s.prefixes, s.vocabulary);
    for (std::size_t k = 0; k + 1 < levels.size(); ++k)
      win_rate += how.density(cdf(p, levels[k])) * (win(k) - win(k + 1)) * s.scores((raw <= levels[k]).select(p, 0.0));
    const table numeric =
        numeric_gradient(s, [&](const table& policy) { return exact_win_rate(raw, s.probability(policy), q, how); });
    CHECK(distance(win_rate, numeric) < 1e-10);

    const Eigen::Map<const table> reference(drawn_rewards.data(), 1, std::ssize(drawn_rewards));
    const Eigen::Map<const table> rewards(raw.data(), 1, raw.size());
    const table shaped = calibrate(reference, rewards, win_probability{how});
    s.reward = shaped.row(0).transpose();
    for (Index M = credit.n; M <= 4; ++M) {
      CHECK(distance(ascent(s, policy_gradient{no_kl{}, credit}, 1, M), win_rate) < 1e-12);
      // The KL is subtracted from the credit: the maximum of R − β·δ would be another objective.
      CHECK(distance(ascent(s, policy_gradient{k1_in_reward{s.beta}, credit}, 1, M),
                     win_rate - s.beta * s.kl_gradient()) < 1e-12);
      CHECK(distance(ascent(s, policy_gradient{k1_reward_to_go{s.beta}, credit}, 1, M),
                     win_rate - s.beta * s.kl_gradient()) < 1e-12);
    }
  };
  for (int n = 2; n <= 4; ++n) {
    check(best_of{n}, max_at_n{n}, 20 + static_cast<unsigned>(n));
    check(worst_of{n}, min_at_n{n}, 30 + static_cast<unsigned>(n));
  }
}
