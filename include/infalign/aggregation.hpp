// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/core.hpp>

/// How the terms of a loss are averaged over the tokens and responses of a batch.
namespace infalign {

/// What a batch divides by: how many scored responses it has, and how many tokens they have that count. Of all shards,
/// where it is one of several.
struct batch_size {
  double sequences = 0, tokens = 0;
};

/// An aggregation: the weight of each token of a response with `tokens` tokens, in a batch of a `batch_size`.
template <class A>
concept aggregation = requires(const A& a, double tokens, const batch_size& total) {
  { a.weight(tokens, total) } -> std::convertible_to<double>;
};

/// 1/B · Σ over responses of Σ over tokens, divided by a fixed `length`. The default, and the only unbiased one: a
/// response's log-probability is the sum of its tokens'. length: 1; or the longest length allowed, as in Dr. GRPO
/// (arXiv:2503.20783); or L/B, for the sum over the batch divided by L. Throws unless length is finite and above 0.
struct sequence_mean_of_token_sums {
  double length = 1;
  void check() const { detail::check_positive("sequence_mean_of_token_sums", "a length", length); }
  double weight(double, const batch_size& total) const { return 1 / (total.sequences * length); }
};

/// 1/B · Σ over responses of the mean over tokens, as in GRPO: a token of a long response counts less.
struct sequence_mean_of_token_means {
  double weight(double tokens, const batch_size& total) const { return 1 / (total.sequences * tokens); }
};

/// The mean over all tokens, as in DAPO (arXiv:2503.14476): a long response counts more.
struct token_mean {
  double weight(double, const batch_size& total) const { return 1 / total.tokens; }
};

static_assert(aggregation<sequence_mean_of_token_sums> && aggregation<sequence_mean_of_token_means> &&
              aggregation<token_mean>);

}  // namespace infalign
