// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/testing/search.hpp>

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include <infalign/detail/begin.hpp>

/// \file
/// A policy so small that expectations over its responses are sums, without sampling: for exact tests of gradients.
namespace INFALIGN_NAMESPACE::checks {

/// A token of a response: π(token | prefix) is the number of row `prefix` and column `token` in a table.
struct policy_place {
  Eigen::Index prefix;  ///< The tokens before it, as a number.
  Eigen::Index token;   ///< The token. Token 0 ends a response.
};

/// An autoregressive softmax policy over all responses of at most `longest` tokens, its reference, an older policy that
/// responses may come from, and a reward for each response. Rewards are multiples of 1/2; those of the first and the last
/// response are tied.
///
/// The tables have a row for each prefix and a column for each token.
struct small_policy {
  Eigen::Index vocabulary;                           ///< The number of tokens.
  Eigen::Index longest;                              ///< The most tokens of a response.
  Eigen::Index prefixes = 0;                         ///< The number of prefixes.
  std::vector<std::vector<policy_place>> responses;  ///< All responses.
  matrix<double> logits;                             ///< The parameters of the policy.
  matrix<double> policy;                             ///< log π(token | prefix).
  matrix<double> reference;                          ///< log π_ref(token | prefix).
  matrix<double> old;                                ///< log π_old(token | prefix).
  matrix<double> sampler;                            ///< log π_sampler(token | prefix).
  array<double> reward;                              ///< Of each response.

  /// A random policy.
  small_policy(Eigen::Index tokens, Eigen::Index most, std::uint64_t seed) : vocabulary(tokens), longest(most) {
    extend({});
    random_source random(seed);
    const auto number = [&] { return static_cast<double>(random.integer(-64, 64) + random.integer(-64, 64)) / 64; };
    // `near` plus `width` times a random table.
    const auto draw = [&](const matrix<double>& near, double width) {
      matrix<double> result = near;
      for (Eigen::Index k = 0; k < result.size(); ++k) result.data()[k] += width * number();
      return result;
    };
    matrix<double> zero(prefixes, vocabulary);
    zero.setZero();
    logits = draw(zero, 1);
    policy = log_softmax(logits);
    reference = log_softmax(draw(zero, 1));
    old = log_softmax(draw(logits, 0.5));
    sampler = log_softmax(draw(logits, 0.5));
    reward.resize(size());
    for (double& r : reward) r = std::floor(number() * 3) / 2;
    reward[size() - 1] = reward[0];
  }

  /// The number of responses.
  Eigen::Index size() const { return std::ssize(responses); }
  /// Response y.
  const std::vector<policy_place>& response(Eigen::Index y) const { return responses[static_cast<std::size_t>(y)]; }
  /// The number of tokens of each response.
  array<double> length() const {
    return for_each([&](Eigen::Index y) { return static_cast<double>(response(y).size()); });
  }

  /// log p(y) of each response, from a table of log p(token | prefix).
  array<double> log_of(const matrix<double>& p) const {
    return for_each([&](Eigen::Index y) {
      double sum = 0;
      for (const auto& [prefix, token] : response(y)) sum += p(prefix, token);
      return sum;
    });
  }
  /// The probability of each response.
  array<double> probability(const matrix<double>& p) const {
    return for_each([log_p = log_of(p)](Eigen::Index y) { return std::exp(log_p[y]); });
  }
  /// log π(y) − log π_ref(y).
  array<double> delta() const {
    return for_each([of = log_of(policy), by = log_of(reference)](Eigen::Index y) { return of[y] - by[y]; });
  }
  /// KL(π ‖ π_ref), in nats.
  double kl() const { return product(probability(policy), delta()).sum(); }
  /// KL(π_ref ‖ π), in nats.
  double forward_kl() const { return -product(probability(reference), delta()).sum(); }

  /// Σ over y of weight(y)·∇log π(y), by the logits.
  matrix<double> scores(const array<double>& weight) const {
    matrix<double> g(prefixes, vocabulary);
    g.setZero();
    for (Eigen::Index y = 0; y < size(); ++y)
      for (const auto& [prefix, token] : response(y)) g(prefix, token) += weight[y];
    return through_softmax(g);
  }
  /// ∇E[R], by the logits.
  matrix<double> reward_gradient() const { return scores(product(probability(policy), reward)); }
  /// ∇KL(π ‖ π_ref).
  matrix<double> kl_gradient() const { return scores(product(probability(policy), delta())); }
  /// ∇KL(π_ref ‖ π).
  matrix<double> forward_kl_gradient() const {
    return scores(for_each([p = probability(reference)](Eigen::Index y) { return -p[y]; }));
  }

  /// From derivatives by log π(token | prefix) to those by the logits: ∂log π_j/∂logit_k = 1{j = k} − π_k.
  matrix<double> through_softmax(const matrix<double>& g) const {
    matrix<double> result = g;
    for (Eigen::Index p = 0; p < g.rows(); ++p) {
      double sum = 0;
      for (Eigen::Index k = 0; k < g.cols(); ++k) sum += g(p, k);
      for (Eigen::Index k = 0; k < g.cols(); ++k) result(p, k) -= std::exp(policy(p, k)) * sum;
    }
    return result;
  }
  /// The logarithm of the softmax of each row.
  static matrix<double> log_softmax(const matrix<double>& of) {
    matrix<double> result = of;
    for (Eigen::Index p = 0; p < of.rows(); ++p) {
      double sum = 0;
      for (Eigen::Index k = 0; k < of.cols(); ++k) sum += std::exp(of(p, k));
      for (Eigen::Index k = 0; k < of.cols(); ++k) result(p, k) -= std::log(sum);
    }
    return result;
  }

 private:
  // Loops, because expressions of Eigen would cost every program that includes this a fifth of a second of compile time.
  template <class F>
  array<double> for_each(const F& f) const {
    array<double> result(size());
    for (Eigen::Index y = 0; y < size(); ++y) result[y] = f(y);
    return result;
  }
  array<double> product(const array<double>& a, const array<double>& b) const {
    return for_each([&](Eigen::Index y) { return a[y] * b[y]; });
  }

  void extend(const std::vector<policy_place>& so_far) {
    const Eigen::Index prefix = prefixes++;
    for (Eigen::Index token = 0; token < vocabulary; ++token) {
      auto next = so_far;
      next.push_back({prefix, token});
      if (token == 0 || std::ssize(next) == longest)
        responses.push_back(next);
      else
        extend(next);
    }
  }
};

/// Calls f(group, probability) for every group of `size` independent draws from a distribution over responses.
///
/// Cost: the number of responses to the power of `size` calls.
template <class F>
void for_each_group(const array<double>& probability, Eigen::Index size, const F& f) {
  std::vector<Eigen::Index> group(static_cast<std::size_t>(size), 0);
  while (true) {
    double weight = 1;
    for (const auto y : group) weight *= probability[y];
    f(group, weight);
    std::size_t k = 0;
    while (k < group.size() && ++group[k] == probability.size()) group[k++] = 0;
    if (k == group.size()) return;
  }
}

/// How a gradient differs from the one that it should be, as a sentence. Empty if it does not, up to `tolerance` times its
/// size.
inline std::string compare_gradients(const std::string& of, const matrix<double>& got, const matrix<double>& wanted,
                                     double tolerance) {
  double wanted2 = 0, got2 = 0, product = 0, difference2 = 0;
  for (Eigen::Index k = 0; k < wanted.size(); ++k) {
    const double w = wanted.data()[k], g = got.data()[k];
    wanted2 += w * w, got2 += g * g, product += g * w, difference2 += (g - w) * (g - w);
  }
  const double size = std::sqrt(wanted2), got_size = std::sqrt(got2);
  if (std::sqrt(difference2) <= tolerance * std::max(size, 1e-3)) return {};
  if (got_size <= tolerance * size) return "The expected gradient is 0, and not that of " + of + ".";
  if (size == 0) return "The expected gradient is not 0, as that of " + of + " is.";
  const double share = product / wanted2;
  double across2 = 0;  // what has another direction
  for (Eigen::Index k = 0; k < wanted.size(); ++k) across2 += std::pow(got.data()[k] - share * wanted.data()[k], 2);
  if (std::sqrt(across2) <= tolerance * got_size)
    return detail::sentence({"The expected gradient is ", share, " times that of ", of, ", with the right direction."});
  return detail::sentence({"The expected gradient has another direction than that of ", of, ": the cosine is ",
                           product / size / got_size, ", and its size is ", got_size / size, " of what it should be."});
}

}  // namespace INFALIGN_NAMESPACE::checks

namespace INFALIGN_NAMESPACE::detail {

/// Runs a check on three small policies. `problem` returns what is wrong with one, or nothing.
template <class Problem>
checks::report check_policies(std::string name, const checks::options& o, const Problem& problem) {
  checks::report r{.check = std::move(name), .seed = o.seed};
  const std::pair<Eigen::Index, Eigen::Index> sizes[] = {{5, 1}, {3, 2}, {2, 4}};
  for (const auto& [vocabulary, longest] : sizes) {
    const checks::small_policy policy(vocabulary, longest, o.seed + static_cast<std::uint64_t>(r.cases));
    const auto fault_with = [&](const checks::small_policy& p) { return checks::fault{problem(p), {}}; };
    r.finding = fault_of(fault_with, policy).first.sentence;
    r.cases += 1;
    r.passed = r.finding.empty();
    if (!r.passed) break;
  }
  return r;
}

}  // namespace INFALIGN_NAMESPACE::detail

#include <infalign/detail/end.hpp>
