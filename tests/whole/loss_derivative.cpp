// SPDX-License-Identifier: MIT
#include "batches.hpp"
#include "plain_step.hpp"

#include <algorithm>
#include <cmath>
#include <functional>

// Every KL term, surrogate and aggregation. The step equals the plain step of support/plain_step.hpp. Its gradient is the
// derivative of its loss by the log-probabilities. Advantages, importance ratios and
// weights without gradient are constants. It is compared with central differences of the loss by its formulas.

using namespace infalign;
using Eigen::Index;

namespace {

double objective(const reinforce&, double log_p, double, double, double A) {
  return A * log_p;
}
template <ratio_of R>
double objective(const clipped_surrogate<R>& f, double, double log_ratio, double, double A) {
  const double rho = std::exp(log_ratio), worse = std::min(rho * A, std::clamp(rho, 1 - f.low, 1 + f.high) * A);
  return f.dual > 0 && A < 0 ? std::max(worse, f.dual * A) : worse;
}
double objective(const cispo& f, double log_p, double, double constant_log_ratio, double A) {
  return std::clamp(std::exp(constant_log_ratio), 1 - f.low, 1 + f.high) * A * log_p;
}

double estimate(const k2_loss&, double delta) {
  return delta * delta / 2;
}
double estimate(const k3_loss&, double delta) {
  return std::exp(-delta) - 1 + delta;
}
double estimate(const k2_token_loss&, double delta) {
  return delta * delta / 2;
}
double estimate(const k3_token_loss&, double delta) {
  return std::exp(-delta) - 1 + delta;
}

double weight(const sequence_mean_of_token_sums& a, double, double sequences, double) {
  return 1 / sequences / a.length;
}
double weight(const sequence_mean_of_token_means&, double length, double sequences, double) {
  return 1 / sequences / length;
}
double weight(const token_mean&, double, double, double tokens) {
  return 1 / tokens;
}

/// The parts of a step, without their types, so that the rest is compiled once.
struct parts {
  ratio_of ratio;
  kl_place place;
  double beta;
  std::function<double(double log_p, double log_ratio, double constant_log_ratio, double A)> gain;
  std::function<double(double delta)> kl_estimate;
  std::function<double(double length, double sequences, double tokens)> token_weight;
};

template <kl_term KL, surrogate F, aggregation A>
parts parts_of(const KL& kl, const F& f, const A& a) {
  parts p{F::ratio, KL::place, kl.beta, {}, {}, {}};
  p.gain = [f](double log_p, double log_ratio, double constant, double advantage) {
    return objective(f, log_p, log_ratio, constant, advantage);
  };
  if constexpr (KL::place == kl_place::sequence_loss || KL::place == kl_place::token_loss)
    p.kl_estimate = [kl](double delta) { return estimate(kl, delta); };
  p.token_weight = [a](double length, double sequences, double tokens) { return weight(a, length, sequences, tokens); };
  return p;
}

/// The loss of a step with leave_one_out at log-probabilities x, from the formulas, in double. Advantages, importance
/// ratios and the weights of the sampler and of CISPO are constants, computed at b.now.
double frozen_loss(const buffers<double>& b, bool sampled, const parts& p, const matrix<double>& x) {
  const bool in_reward = p.place == kl_place::reward || p.place == kl_place::reward_to_go;
  const bool geometric = p.ratio == ratio_of::sequence_geometric_mean;
  const bool by_sequence = p.ratio == ratio_of::sequence || geometric;
  const matrix<double> old = p.ratio == ratio_of::nothing ? b.now : b.old;
  const auto unmasked = [&](const matrix<double>& m) { return matrix<double>((b.mask == 1).select(m, 0.0)); };
  const matrix<double> delta_now = unmasked(b.now - b.reference), delta = unmasked(x - b.reference);
  const matrix<double> ratio_now = unmasked(b.now - old), ratio = unmasked(x - old),
                       correction = unmasked(old - b.sampler);
  const auto sampler_weight = [&](double log_weight) {
    return sampled ? std::min(std::exp(log_weight), b.sampled().sampler_weight_cap) : 1.0;
  };

  const array<double> R = b.rewards.reshaped<Eigen::RowMajor>();
  array<double> X = R;
  if (in_reward) X -= p.beta * delta_now.rowwise().sum();
  double loss = 0;
  for (Index i = 0; i < b.B; ++i) {
    const double length = b.mask.row(i).sum(), share = geometric ? 1 / length : 1;
    const double others = (X.segment(i / b.M * b.M, b.M).sum() - X[i]) / static_cast<double>(b.M - 1);
    double sum = 0;
    if (by_sequence)
      sum -= sampler_weight(correction.row(i).sum()) *
             p.gain(0, ratio.row(i).sum() * share, ratio_now.row(i).sum() * share, X[i] - others);
    if (p.place == kl_place::sequence_loss)
      sum += p.beta * std::exp(ratio_now.row(i).sum()) * sampler_weight(correction.row(i).sum()) *
             p.kl_estimate(delta.row(i).sum());
    for (Index t = 0; t < b.T; ++t) {
      if (b.mask(i, t) == 0) continue;
      double A = X[i] - others;
      if (p.place == kl_place::reward_to_go) A = R[i] - p.beta * delta_now.row(i).tail(b.T - t).sum() - others;
      if (!by_sequence) sum -= sampler_weight(correction(i, t)) * p.gain(x(i, t), ratio(i, t), ratio_now(i, t), A);
      if (p.place == kl_place::token_loss)
        sum += p.beta * std::exp(ratio_now(i, t)) * sampler_weight(correction(i, t)) * p.kl_estimate(delta(i, t));
    }
    loss += p.token_weight(length, static_cast<double>(b.B), b.mask.sum()) * sum;
  }
  return loss;
}

/// A batch whose reference is far from the policy.
template <real_scalar S>
buffers<S> far_from_reference() {
  buffers<S> b(1);
  b.reference = b.now.reverse().eval();
  return b;
}

template <real_scalar S>
using step_on = std::function<step_result<S>(const token_batch<S>&, const matrix<S>&)>;

template <real_scalar S>
step_result<S> run(const step_on<S>& step, const buffers<S>& b, bool off_policy, bool sampled) {
  if (sampled) return step(b.sampled(off_policy), b.rewards);
  return step(off_policy ? b.off_policy() : b.on_policy(), b.rewards);
}

/// The plain step on P × M rewards.
step_on<double> plain_step_of(const plain::parts& p) {
  return [p](const token_batch<double>& batch, const matrix<double>& rewards) {
    std::vector<int> prompt;
    for (Index i = 0; i < rewards.size(); ++i) prompt.push_back(static_cast<int>(i / rewards.cols()));
    const auto result = plain::step(p, batch, prompt, rewards.reshaped<Eigen::RowMajor>());
    return step_result<double>{result.loss, result.gradient, {}};
  };
}

void check_step(const parts& p, const step_on<double>& plain_step, const step_on<double>& step,
                const step_on<float>& single_step) {
  const bool off_policy = p.ratio != ratio_of::nothing;
  const auto b = far_from_reference<double>();
  for (bool sampled : {false, true}) {
    const auto loss = [&](const matrix<double>& x) { return frozen_loss(b, sampled, p, x); };
    matrix<double> derivative(b.B, b.T);
    for (Index k = 0; k < derivative.size(); ++k) {
      matrix<double> up = b.now, down = b.now;
      up.data()[k] += 1e-5;
      down.data()[k] -= 1e-5;
      derivative.data()[k] = (loss(up) - loss(down)) / 2e-5;
    }
    const double size = derivative.matrix().norm();
    const auto out = run(step, b, off_policy, sampled);
    CHECK(out.loss == near(loss(b.now), 1e-13));
    CHECK(distance(out.gradient, derivative) < 1e-7 * size);
    CHECK(((b.mask == 1) || (out.gradient == 0)).all());
    const auto expected = run(plain_step, b, off_policy, sampled);
    CHECK(out.loss == near(expected.loss, 1e-13));
    CHECK(distance(out.gradient, expected.gradient) < 1e-13 * size);
    if (off_policy) {  // some ratios are clipped at either end
      CHECK(out.metrics.clip_ratio_low > 0);
      CHECK(out.metrics.clip_ratio_high > 0);
    }
    if (single_step) {  // 24 bits, and sums of a dozen terms
      const auto single = run(single_step, far_from_reference<float>(), off_policy, sampled);
      CHECK(single.loss == near(out.loss, 1e-6));
      CHECK(distance(single.gradient.template cast<double>(), derivative) < 1e-5 * size);
    }
  }
}

template <kl_term KL, surrogate F, aggregation A>
void check_derivative(const KL& kl, const F& f, const A& a) {
  const policy_gradient step{kl, leave_one_out{}, f, a};
  step_on<float> single;
  if constexpr (std::same_as<A, sequence_mean_of_token_sums>) single = step;
  check_step(parts_of(kl, f, a), plain_step_of(plain::parts_of(kl, leave_one_out{}, f, a)), step, single);
}

}  // namespace

TEST_CASE("The gradient is the derivative of the loss, for every surrogate, KL term and aggregation") {
  const auto with_every_kl = []<surrogate F>(const F& f) {
    constexpr bool by_token = F::ratio == ratio_of::nothing || F::ratio == ratio_of::token;
    const auto check = [&]<kl_term KL>(const KL& kl) {
      if constexpr (by_token || KL::place != kl_place::reward_to_go)
        check_derivative(kl, f, sequence_mean_of_token_sums{.length = 4});
      if constexpr (by_token && KL::place != kl_place::sequence_loss) {
        check_derivative(kl, f, sequence_mean_of_token_means{});
        check_derivative(kl, f, token_mean{});
      }
    };
    for_each_of(check, no_kl{}, k1_in_reward{0.3}, k1_reward_to_go{0.3}, k2_loss{0.3}, k3_loss{0.3}, k2_token_loss{0.3},
                k3_token_loss{0.3});
  };
  for_each_of(with_every_kl, reinforce{}, ppo_clip{}, ppo_clip{.low = 0.1, .high = 0.3, .dual = 1.2},
              sequence_clip{.low = 0.1, .high = 0.1}, gspo_clip{.low = 0.05, .high = 0.05},
              cispo{.low = 0.2, .high = 0.2});
}
