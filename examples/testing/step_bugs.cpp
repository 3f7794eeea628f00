// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#include "museum.hpp"

#include <algorithm>
#include <cmath>
#include <functional>
#include <vector>

using namespace infalign;
using checks::token_case;
using Eigen::Index;

namespace {

/// log π − log π_ref of unmasked tokens.
matrix<double> delta_of(const token_case& c) {
  return c.mask * (c.log_probabilities - c.reference_log_probabilities);
}

/// The gradient of a REINFORCE step without a baseline: minus the reward less β·δ, over the number of responses, at
/// unmasked tokens.
matrix<double> reinforce_gradient(const token_case& c, double beta) {
  const array<double> reward = c.rewards - beta * delta_of(c).rowwise().sum();
  return -(c.mask.colwise() * reward) / static_cast<double>(c.size());
}

/// The same with an importance ratio: without a clip, to show the ratio alone.
matrix<double> with_ratio(const token_case& c, const matrix<double>& old) {
  return reinforce_gradient(c, 0) * (c.mask * (c.log_probabilities - old)).exp();
}

/// The sum over tokens of an estimate of δ.
checks::kl_estimate of_tokens(const std::function<double(double)>& k) {
  return [k](const matrix<double>& now, const matrix<double>& reference, const matrix<double>& mask) -> array<double> {
    return (mask * (now - reference).unaryExpr(k)).rowwise().sum();
  };
}

/// An estimate of δ of a whole response.
checks::kl_estimate of_responses(const std::function<double(double)>& k) {
  return [k](const matrix<double>& now, const matrix<double>& reference, const matrix<double>& mask) -> array<double> {
    return (mask * (now - reference)).rowwise().sum().unaryExpr(k);
  };
}

/// The gradient of −Σ reward over the tokens of a batch in micro-batches, each token divided by a number.
template <class Weight>
auto accumulated(const Weight& weight) {
  return [weight](const std::vector<token_case>& parts) {
    Index rows = 0;
    double tokens = 0;
    for (const auto& part : parts) rows += part.size(), tokens += part.mask.sum();
    matrix<double> all(rows, parts[0].tokens());
    Index row = 0;
    for (const auto& part : parts) {
      all.middleRows(row, part.size()) =
          -(part.mask.colwise() * part.rewards) / weight(part.mask.sum(), tokens, std::ssize(parts));
      row += part.size();
    }
    return all;
  };
}

}  // namespace

std::vector<exhibit> step_bugs(const checks::options& o) {
  const checks::training_step plain{[](const token_case& c) { return reinforce_gradient(c, 0); }};
  std::vector<exhibit> exhibits;
  const auto add = [&](std::string name, std::string source, const auto& bug, const auto& right, const auto& check) {
    exhibits.push_back({std::move(name), std::move(source), check(bug), check(right)});
  };
  const auto step = [](auto f) { return checks::training_step{f}; };

  add("the KL is rewarded, not punished", "qiancheng0/ToolRL#52",
      step([](const token_case& c) { return reinforce_gradient(c, -0.2); }),
      step([](const token_case& c) { return reinforce_gradient(c, 0.2); }),
      [&](const auto& f) { return checks::unbiased_step(f, 2, 0.2, checks::divergence::reverse, o); });

  add("the loss of a response is divided by its length", "huggingface/trl#3138", step([](const token_case& c) {
        return matrix<double>(reinforce_gradient(c, 0).colwise() / c.mask.rowwise().sum());
      }),
      plain, [&](const auto& f) { return checks::unbiased_step(f, 2, 0, checks::divergence::reverse, o); });

  add("the mask is one token off", "CarperAI/trlx#509", step([](const token_case& c) {
        auto shifted = c;
        shifted.mask.rightCols(c.tokens() - 1) = c.mask.leftCols(c.tokens() - 1);
        return reinforce_gradient(shifted, 0);
      }),
      plain, [&](const auto& f) { return checks::no_gradient_at_masked_tokens(f, o); });

  add("padded positions are part of the loss", "huggingface/trl#6654", step([](const token_case& c) {
        auto all = c;
        all.mask.setOnes();
        return reinforce_gradient(all, 0);
      }),
      plain, [&](const auto& f) { return checks::no_gradient_at_masked_tokens(f, o); });

  add("padding changes the mean over tokens", "huggingface/trl#7024", step([](const token_case& c) {
        return matrix<double>(-(c.mask.colwise() * c.rewards) / static_cast<double>(c.mask.size()));
      }),
      step([](const token_case& c) { return matrix<double>(-(c.mask.colwise() * c.rewards) / c.mask.sum()); }),
      [&](const auto& f) { return checks::ignores_padding(f, o); });

  add("the KL of masked tokens is part of the reward", "radixark/miles#1383", step([](const token_case& c) {
        const array<double> kl = (c.log_probabilities - c.reference_log_probabilities).rowwise().sum();
        return matrix<double>(-(c.mask.colwise() * (c.rewards - 0.2 * kl)) / static_cast<double>(c.size()));
      }),
      step([](const token_case& c) { return reinforce_gradient(c, 0.2); }),
      [&](const auto& f) { return checks::ignores_masked_tokens(f, o); });

  // Here: π_old was computed with another sequence of positions than π.
  add("the ratio is not 1 before the first update", "CarperAI/trlx#107", step([](const token_case& c) {
        return c.off_policy ? with_ratio(c, c.old_log_probabilities.rowwise().reverse()) : reinforce_gradient(c, 0);
      }),
      step([](const token_case& c) {
        return c.off_policy ? with_ratio(c, c.old_log_probabilities) : reinforce_gradient(c, 0);
      }),
      [&](const auto& f) { return checks::ratio_of_one_is_on_policy(f, o); });

  add("each micro-batch is divided by its own number of tokens", "allenai/open-instruct#1161",
      accumulated([](double own, double, Index parts) { return own * static_cast<double>(parts); }),
      accumulated([](double, double all, Index) { return all; }),
      [&](const auto& f) { return checks::parts_sum_to_whole(f, 1, o); });

  const auto k2 = of_responses([](double d) { return d * d / 2; });
  const auto gradient = [&](const auto& f) { return checks::has_kl_gradient(f, checks::divergence::reverse, o); };
  // What is computed without gradient is a constant: here, it does not depend on `now`.
  add("the KL loss is computed without gradient", "allenai/open-instruct#530",
      checks::kl_estimate{[](const matrix<double>&, const matrix<double>& reference, const matrix<double>& mask)
                              -> array<double> { return (mask * reference).rowwise().sum().square(); }},
      k2, gradient);
  add("k1 is back-propagated, and has no gradient on average", "NVIDIA-NeMo/RL#2506",
      of_responses([](double d) { return d; }), k2, gradient);
  add("k3 is back-propagated, and has the gradient of the other divergence", "OpenRLHF/OpenRLHF#1309",
      of_responses([](double d) { return std::exp(-d) - 1 + d; }), k2, gradient);

  add("the difference of the KL is taken the other way round", "nebuly-ai/optimate#298",
      of_tokens([](double d) { return -d; }), of_tokens([](double d) { return d; }),
      [&](const auto& f) { return checks::estimates_kl(f, checks::divergence::reverse, o); });
  return exhibits;
}
