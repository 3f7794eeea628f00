// SPDX-License-Identifier: MIT
// The aligned policy in closed form, for a reference policy that is uniform over a finite list of responses to each
// prompt.
#pragma once

#include <infalign/measure/exact_win_rate.hpp>

#include <cmath>
#include <limits>
#include <optional>
#include <vector>

using rows = std::vector<infalign::array<double>>;  // one for each prompt

/// The policy proportional to exp(scores / beta), and its KL to the uniform policy.
struct softmax {
  infalign::array<double> policy;
  double kl;

  softmax(const infalign::array<double>& scores, double beta) {
    // Halves are subtracted, so that no difference overflows. e^-700 is negligible, but its logarithm is finite.
    const infalign::array<double> x = ((scores / 2 - scores.maxCoeff() / 2) / (beta / 2)).max(-700.0);
    policy = x.exp();
    const double sum = policy.sum();
    policy /= sum;
    kl = std::log(static_cast<double>(scores.size()) / sum) + (policy * x).sum();
  }
};

inline double mean_kl(const rows& scores, double beta) {
  double sum = 0;
  for (const auto& s : scores) sum += softmax(s, beta).kl;
  return sum / static_cast<double>(scores.size());
}

/// The beta at which the mean KL over the prompts is `kl`, or nothing if no beta reaches it. Bisects log beta over the
/// range of a double.
inline std::optional<double> beta_at(const rows& scores, double kl) {
  double low = std::log(std::numeric_limits<double>::min()), high = std::log(std::numeric_limits<double>::max());
  if (mean_kl(scores, std::exp(low)) <= kl + 1e-9) return std::nullopt;
  for (int i = 0; i < 50; ++i) {
    const double middle = (low + high) / 2;
    (mean_kl(scores, std::exp(middle)) > kl ? low : high) = middle;
  }
  return std::exp(high);
}

/// The mean over prompts of the policy's exact win rate against the reference.
template <infalign::procedure Procedure>
double mean_win_rate(const rows& rewards, const rows& scores, double beta, const Procedure& procedure) {
  double sum = 0;
  for (std::size_t p = 0; p < rewards.size(); ++p) {
    const auto K = rewards[p].size();
    sum += infalign::exact_win_rate(rewards[p], softmax(scores[p], beta).policy,
                                    infalign::array<double>::Constant(K, 1.0 / static_cast<double>(K)), procedure);
  }
  return sum / static_cast<double>(rewards.size());
}
