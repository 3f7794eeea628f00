// SPDX-License-Identifier: MIT
#pragma once

// The step, plainly: in double, one number at a time, every part from its formula. The oracle of the fast step.
#include <infalign/step.hpp>

#include <algorithm>
#include <bit>
#include <cmath>
#include <functional>
#include <map>
#include <vector>

namespace plain {

using namespace infalign;
using Eigen::Index;

struct term {
  double loss = 0, slope = 0;
};

/// The parts of a step, without their types.
struct parts {
  ratio_of ratio = ratio_of::nothing;
  kl_place place = kl_place::none;
  double beta = 0;
  std::function<term(double log_p, double log_ratio, double advantage)> surrogate;
  std::function<term(double delta)> kl;
  std::function<double(double length, const batch_size&)> weight;
  std::function<array<double>(const array<double>& group, const array<double>& all)> estimate;
  bool linear = false;
  Index smallest_group = 1;
};

// Formulas of the parts.

inline auto formula(const reinforce&) {
  return [](double log_p, double, double A) { return term{-A * log_p, -A}; };
}
template <ratio_of R>
auto formula(const clipped_surrogate<R>& f) {
  return [f](double, double log_ratio, double A) {
    const double rho = std::exp(log_ratio), clipped = std::clamp(rho, 1 - f.low, 1 + f.high);
    if (f.dual > 0 && A < 0 && rho > f.dual) return term{-f.dual * A, 0};
    return rho * A <= clipped * A ? term{-rho * A, -rho * A} : term{-clipped * A, 0};
  };
}
inline auto formula(const cispo& f) {
  return [f](double log_p, double log_ratio, double A) {
    const double weight = std::clamp(std::exp(log_ratio), 1 - f.low, 1 + f.high);
    return term{-weight * A * log_p, -weight * A};
  };
}
/// δ is passed in place of log π.
inline auto formula(const regression& f) {
  return [f](double delta, double, double target) {
    const double excess = f.beta * delta - target;
    return term{excess * excess / 2 / f.beta, excess};
  };
}
inline term k2(double delta) {
  return {delta * delta / 2, delta};
}
inline term k3(double delta) {
  return {std::exp(-delta) - 1 + delta, 1 - std::exp(-delta)};
}

inline double weight(const sequence_mean_of_token_sums& a, double, const batch_size& n) {
  return 1 / (n.sequences * a.length);
}
inline double weight(const sequence_mean_of_token_means&, double length, const batch_size& n) {
  return 1 / (n.sequences * length);
}
inline double weight(const token_mean&, double, const batch_size& n) {
  return 1 / n.tokens;
}

/// The scored rewards of the batch, less their KL if the estimator is linear.
using all_rewards = array<double>;

inline array<double> estimate(const no_baseline&, const array<double>& r, const all_rewards&) {
  return r;
}
inline array<double> estimate(const batch_mean&, const array<double>& r, const all_rewards& all) {
  return r - all.mean();
}
inline array<double> estimate(const batch_standardized& e, const array<double>& r, const all_rewards& all) {
  const double variance = (all - all.mean()).square().sum() / (static_cast<double>(all.size()) - 1);
  return (r - r.mean()) / (std::sqrt(variance) + e.epsilon);
}
inline array<double> estimate(const group_mean&, const array<double>& r, const all_rewards&) {
  return r - r.mean();
}
inline array<double> estimate(const leave_one_out&, const array<double>& r, const all_rewards&) {
  return r - (r.sum() - r) / (static_cast<double>(r.size()) - 1);
}
inline array<double> estimate(const group_standardized& e, const array<double>& r, const all_rewards&) {
  return (r - r.mean()) / (std::sqrt((r - r.mean()).square().sum() / (static_cast<double>(r.size()) - 1)) + e.epsilon);
}
/// M/C(M, n) times the sum over the sets of n responses with i of max over the set − max over the rest (0 if that is
/// empty).
inline array<double> estimate(const max_at_n& e, const array<double>& r, const all_rewards&) {
  const auto M = static_cast<unsigned>(r.size());
  array<double> sum = array<double>::Zero(r.size());
  double sets = 0;
  for (unsigned set = 0; set < 1U << M; ++set) {
    if (std::popcount(set) != e.n) continue;
    sets += 1;
    const auto max_of = [&](unsigned some) {
      double best = some ? -1e300 : 0;
      for (unsigned i = 0; i < M; ++i)
        if (some >> i & 1) best = std::max(best, r[i]);
      return best;
    };
    for (unsigned i = 0; i < M; ++i)
      if (set >> i & 1) sum[i] += max_of(set) - max_of(set & ~(1U << i));
  }
  return static_cast<double>(M) / sets * sum;
}

template <class KL, class Estimator, class Surrogate, class Aggregation>
parts parts_of(const KL& kl, const Estimator& e, const Surrogate& f, const Aggregation& a) {
  parts p;
  p.ratio = Surrogate::ratio, p.place = KL::place, p.beta = kl.beta;
  p.surrogate = formula(f);
  p.kl = std::same_as<KL, k2_loss> || std::same_as<KL, k2_token_loss> ? k2 : k3;
  p.weight = [a](double length, const batch_size& n) { return plain::weight(a, length, n); };
  p.estimate = [e](const array<double>& r, const array<double>& all) { return plain::estimate(e, r, all); };
  p.linear = std::same_as<Estimator, no_baseline> || std::same_as<Estimator, batch_mean> ||
             std::same_as<Estimator, group_mean> || std::same_as<Estimator, leave_one_out>;
  if constexpr (requires { e.smallest_group(); }) p.smallest_group = e.smallest_group();
  return p;
}

// Stage 1: read. What a term is a function of: one token, or a whole response, which is the sum of its tokens.

struct unit {
  double log_p = 0, to_old = 0, to_reference = 0, to_sampler = 0;
};
struct response {
  std::vector<Index> columns;  // of the unmasked tokens
  std::vector<unit> tokens;
  unit whole;
};

inline response read(const token_batch<double>& b, Index i) {
  response r;
  for (Index t = 0; t < b.log_probabilities.cols(); ++t) {
    if (b.mask.given() && b.mask.row(i)[t] == 0) continue;
    const auto at = [&](const matrix_view<double>& view, double otherwise) {
      return view.given() ? view.row(i)[t] : otherwise;
    };
    const double now = b.log_probabilities.row(i)[t], old = at(b.old_log_probabilities, now);
    const unit u{now, now - old, now - at(b.reference_log_probabilities, now),
                 old - at(b.sampler_log_probabilities, old)};
    r.columns.push_back(t);
    r.tokens.push_back(u);
    r.whole.log_p += u.log_p, r.whole.to_old += u.to_old;
    r.whole.to_reference += u.to_reference, r.whole.to_sampler += u.to_sampler;
  }
  return r;
}

// Stage 2: credit. One advantage for each response.

/// NaN rewards are left out, and a group that is too small has advantages of 0.
inline array<double> advantages(const parts& p, const std::vector<response>& responses, const std::vector<int>& prompt,
                                const array<double>& rewards) {
  const bool in_reward = p.place == kl_place::reward || p.place == kl_place::reward_to_go;
  array<double> values = rewards, penalty = array<double>::Zero(rewards.size());
  for (Index i = 0; in_reward && i < rewards.size(); ++i)
    penalty[i] = p.beta * responses[static_cast<std::size_t>(i)].whole.to_reference;
  if (p.linear) values -= penalty;
  std::vector<Index> scored;
  std::map<int, std::vector<Index>> groups;
  for (Index i = 0; i < rewards.size(); ++i) {
    if (std::isnan(rewards[i])) continue;
    scored.push_back(i);
    groups[prompt[static_cast<std::size_t>(i)]].push_back(i);
  }
  array<double> result = array<double>::Zero(rewards.size());
  for (const auto& [index, members] : groups) {
    if (std::ssize(members) < p.smallest_group) continue;
    const array<double> of_group = p.estimate(values(members), values(scored));
    for (std::size_t k = 0; k < members.size(); ++k)
      result[members[k]] = of_group[static_cast<Index>(k)] - (p.linear ? 0 : penalty[members[k]]);
  }
  return result;
}

// Stages 3 and 4: terms, and their weighted sum.

struct result {
  double loss = 0;
  matrix<double> gradient;
};

inline result step(const parts& p, const token_batch<double>& b, const std::vector<int>& prompt,
                   const array<double>& rewards) {
  std::vector<response> responses;
  batch_size size;
  std::map<int, Index> group_size;
  for (Index i = 0; i < rewards.size(); ++i) {
    responses.push_back(read(b, i));
    if (std::isnan(rewards[i])) continue;
    size.sequences += 1, size.tokens += static_cast<double>(responses.back().tokens.size());
    ++group_size[prompt[static_cast<std::size_t>(i)]];
  }
  const array<double> A = advantages(p, responses, prompt, rewards);
  const auto importance = [&](const unit& of) {
    if (!b.sampler_log_probabilities.given()) return 1.0;
    const double w = std::exp(of.to_sampler), floor = b.sampler_weight_floor, cap = b.sampler_weight_cap;
    const bool masks =
        b.sampler_weights == sampler_mode::token_mask || b.sampler_weights == sampler_mode::sequence_mask;
    if (masks) return w < floor || w > cap ? 0.0 : w;
    return std::clamp(w, floor, cap);
  };
  const bool one_weight =
      b.sampler_weights == sampler_mode::sequence_truncate || b.sampler_weights == sampler_mode::sequence_mask;
  const auto kl_loss = [&](const unit& u, double correction) {
    const term k = p.kl(u.to_reference);
    const double w = p.beta * std::exp(u.to_old) * correction;
    return term{w * k.loss, w * k.slope};
  };
  const bool geometric = p.ratio == ratio_of::sequence_geometric_mean;
  const bool to_reference = p.ratio == ratio_of::sequence_to_reference;
  const bool by_response = geometric || to_reference || p.ratio == ratio_of::sequence;

  result out{0, matrix<double>::Zero(b.log_probabilities.rows(), b.log_probabilities.cols())};
  for (Index i = 0; i < rewards.size(); ++i) {
    const response& r = responses[static_cast<std::size_t>(i)];
    if (std::isnan(rewards[i]) || r.tokens.empty()) continue;
    const double length = static_cast<double>(r.tokens.size()), share = geometric ? 1 / length : 1;
    term whole;
    if (by_response) {
      const double x = to_reference ? r.whole.to_reference : r.whole.log_p * share;
      const term s = p.surrogate(x, r.whole.to_old * share, A[i]);
      whole.loss += importance(r.whole) * s.loss, whole.slope += importance(r.whole) * s.slope * share;
    }
    if (p.place == kl_place::sequence_loss) {
      const term k = kl_loss(r.whole, importance(r.whole));
      whole.loss += k.loss, whole.slope += k.slope;
    }
    const double w = p.weight(length, size);
    out.loss += w * whole.loss;
    double before = 0;  // KL of earlier tokens, which a token is not charged for
    const bool compared = group_size[prompt[static_cast<std::size_t>(i)]] >= p.smallest_group;
    for (std::size_t t = 0; t < r.tokens.size(); ++t) {
      const unit& u = r.tokens[t];
      const double correction = importance(one_weight ? r.whole : u);
      term token;
      if (!by_response) {
        const double credit = p.place == kl_place::reward_to_go && compared ? A[i] + p.beta * before : A[i];
        const term s = p.surrogate(u.log_p, u.to_old, credit);
        token.loss += correction * s.loss, token.slope += correction * s.slope;
      }
      if (p.place == kl_place::token_loss) {
        const term k = kl_loss(u, correction);
        token.loss += k.loss, token.slope += k.slope;
      }
      before += u.to_reference;
      out.loss += w * token.loss;
      out.gradient(i, r.columns[t]) = w * (whole.slope + token.slope);
    }
  }
  return out;
}

}  // namespace plain
