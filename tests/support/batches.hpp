// SPDX-License-Identifier: MIT
#pragma once

// Batches of responses for the tests of the step.
#include <infalign/step.hpp>

#include "arrays.hpp"

#include <random>
#include <vector>

/// These rows of a matrix, in this order.
template <class S>
infalign::matrix<S> rows_of(const infalign::matrix<S>& m, const std::vector<Eigen::Index>& rows) {
  infalign::matrix<S> result(std::ssize(rows), m.cols());
  for (Eigen::Index k = 0; k < result.rows(); ++k) result.row(k) = m.row(rows[static_cast<std::size_t>(k)]);
  return result;
}

/// P prompts of M responses of T tokens: policies far enough apart for clipping, and a mask with holes. The numbers are
/// floats in either precision.
template <infalign::real_scalar S = double>
struct buffers {
  Eigen::Index P, M, B, T;
  infalign::matrix<S> now, reference, old, sampler, mask, rewards;

  explicit buffers(unsigned seed, Eigen::Index prompts = 4, Eigen::Index responses = 3, Eigen::Index tokens = 5)
      : P(prompts), M(responses), B(P * M), T(tokens) {
    std::mt19937 random(seed);
    const auto uniform = [&](double low, double high) {
      return static_cast<S>(static_cast<float>(low + (high - low) * static_cast<double>(random()) / 0x1p32));
    };
    const auto near_to = [&](const infalign::matrix<S>& m, double width) {
      return infalign::matrix<S>(
          m.unaryExpr([&](S x) { return static_cast<S>(static_cast<float>(x + uniform(-width, width))); }));
    };
    now = table_of<S>(B, T, [&] { return uniform(-3, 0); });
    reference = near_to(now, 0.5);
    old = near_to(now, 0.5);
    sampler = near_to(old, 0.2);
    mask = table_of<S>(B, T, [&] { return random() % 4 > 0 ? 1 : 0; });
    mask.col(T > 1 ? 1 : 0).setOnes();
    rewards = table_of<S>(P, M, [&] { return uniform(-1, 1); });
  }

  infalign::token_batch<S> on_policy(Eigen::Index first = 0, Eigen::Index rows = -1) const {
    const auto n = rows < 0 ? now.rows() : rows;
    return {.log_probabilities = now.middleRows(first, n),
            .reference_log_probabilities = reference.middleRows(first, n),
            .mask = mask.middleRows(first, n)};
  }
  infalign::token_batch<S> off_policy(Eigen::Index first = 0, Eigen::Index rows = -1) const {
    auto batch = on_policy(first, rows);
    batch.old_log_probabilities = old.middleRows(first, rows < 0 ? now.rows() : rows);
    return batch;
  }
  /// With a sampler. The cap of its weight binds on some tokens.
  infalign::token_batch<S> sampled(bool with_old = true) const {
    auto batch = with_old ? off_policy() : on_policy();
    batch.sampler_log_probabilities = sampler;
    batch.sampler_weight_cap = 1.05;
    return batch;
  }

  /// Only the responses of these rows, in this order, their rewards in a column.
  buffers rows(const std::vector<Eigen::Index>& chosen) const {
    buffers b = *this;
    b.rewards = flat();
    for (auto* m : {&b.now, &b.reference, &b.old, &b.sampler, &b.mask, &b.rewards}) *m = rows_of(*m, chosen);
    return b;
  }
  infalign::array<S> flat() const { return rewards.template reshaped<Eigen::RowMajor>(); }
};

/// All metrics.
inline infalign::array<double> fields(const infalign::step_metrics& m) {
  const std::vector<double> all{m.sequences,
                                m.tokens,
                                m.reward,
                                m.reward_std,
                                m.advantage_mean,
                                m.advantage_std,
                                m.frac_reward_zero_std,
                                m.kl,
                                m.kl_per_token,
                                m.kl_of_prompt_above_0,
                                m.approx_kl,
                                m.ratio,
                                m.clip_ratio_low,
                                m.clip_ratio_high,
                                m.clip_ratio,
                                m.kl_max,
                                m.kl_of_prompt_max,
                                m.kl_max_prompt,
                                m.kl_max_prompt_share(),
                                m.tokens_max,
                                m.tokens_min};
  return Eigen::Map<const infalign::array<double>>(all.data(), std::ssize(all));
}

/// True if two results are equal, bit for bit up to the sign of zero.
template <class S>
bool same_result(const infalign::step_result<S>& a, const infalign::step_result<S>& b) {
  return a.loss == b.loss && same(a.gradient, b.gradient) && same(fields(a.metrics), fields(b.metrics));
}
