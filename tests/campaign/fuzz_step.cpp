// SPDX-License-Identifier: MIT
// Bytes as a batch: calibration, transform and step. The only exceptions are errors with good messages; everything else is as
// documented: ranks by a count, a finite loss, a gradient of 0 where nothing is to be learnt, micro-batches that add up.
#include <infalign/infalign.hpp>

#include "fuzz.hpp"

#include <cmath>
#include <limits>

using namespace infalign;
using Eigen::Index;

namespace {

template <class S>
struct batch {
  Index P, M, K, T;
  matrix<S> reference, rewards, now, before, old, sampler, mask;
  std::vector<int> prompt;
  bool with_old, with_sampler, with_mask, flat;
  sampler_mode mode;
  unscored on_unscored;
};

template <class S>
S reward(fuzz::bytes& in) {
  using limits = std::numeric_limits<S>;
  const int kind = in.up_to(15);
  if (kind < 10) return static_cast<S>(in.up_to(8) - 4) / 2;
  if (kind == 10) return limits::quiet_NaN();
  if (kind == 11) return limits::infinity();
  if (kind == 12) return -limits::infinity();
  if (kind == 13) return in.flag() ? limits::max() : limits::lowest();
  if (kind == 14) return in.flag() ? limits::denorm_min() : -S{0};
  return static_cast<S>(in.next()) * limits::epsilon();
}

template <class S>
S log_probability(fuzz::bytes& in) {
  using limits = std::numeric_limits<S>;
  const int kind = in.up_to(63);
  if (kind < 58) return -static_cast<S>(in.next()) / 32;
  return in.choice<S>(
      {limits::lowest(), -limits::infinity(), limits::quiet_NaN(), S{-1e6f}, S{-1e20f}, S{0.5}, limits::max()});
}

template <class S>
batch<S> read(fuzz::bytes& in) {
  batch<S> b;
  b.P = in.up_to(4), b.M = in.up_to(5), b.K = in.up_to(6), b.T = in.choice<Index>({0, 1, 2, 3, 63, 64, 65, 130});
  const auto settings = in.next();
  b.with_old = settings & 1, b.with_sampler = settings & 2, b.with_mask = settings & 4, b.flat = settings & 8;
  b.on_unscored = settings & 16 ? unscored::propagate : unscored::error;
  b.mode = static_cast<sampler_mode>(in.up_to(3));
  const auto fill = [](Index rows, Index columns, auto draw) {
    matrix<S> m(rows, columns);
    for (Index i = 0; i < m.size(); ++i) m.data()[i] = draw();
    return m;
  };
  b.reference = fill(b.P, b.K, [&] { return reward<S>(in); });
  b.rewards = fill(b.P, b.M, [&] { return reward<S>(in); });
  const Index B = b.P * b.M;
  const auto tokens = [&] { return fill(B, b.T, [&] { return log_probability<S>(in); }); };
  b.now = tokens(), b.before = tokens(), b.old = tokens(), b.sampler = tokens();
  b.mask = fill(B, b.T, [&] { return in.up_to(40) == 40 ? S{2} : static_cast<S>(in.up_to(3) > 0); });
  for (Index i = 0; i < B; ++i) b.prompt.push_back(static_cast<int>(i / std::max<Index>(b.M, 1)));
  return b;
}

template <class S>
bool same(const matrix<S>& a, const matrix<S>& b) {
  if (a.rows() != b.rows() || a.cols() != b.cols()) return false;
  for (Index i = 0; i < a.size(); ++i)
    if (!(a.data()[i] == b.data()[i] || (detail::is_nan(a.data()[i]) && detail::is_nan(b.data()[i])))) return false;
  return true;
}

/// The numbers of a matrix as a column.
template <class S>
array<S> flattened(const matrix<S>& m) {
  return Eigen::Map<const array<S>>(m.data(), m.size());
}

template <class S>
void check_ranks(const batch<S>& b, const matrix<S>& u) {
  for (Index p = 0; p < b.P; ++p)
    for (Index m = 0; m < b.M; ++m) {
      double below = 0, tied = 0, count = 0;
      for (Index k = 0; k < b.K; ++k) {
        const S z = b.reference(p, k);
        if (std::isnan(z)) continue;
        below += z < b.rewards(p, m), tied += z == b.rewards(p, m), count += 1;
      }
      const S rank = u(p, m);
      if (std::isnan(b.rewards(p, m)) || count == 0)
        fuzz::require(std::isnan(rank), "an unscored response has no rank");
      else
        fuzz::require(
            std::abs(static_cast<double>(rank) - (below + tied / 2) / count) <= std::numeric_limits<S>::epsilon(),
            "a rank is that of the count");
    }
}

template <class S, class Step>
void check_step(const batch<S>& b, const matrix<S>& rewards, const Step& step) {
  token_batch<S> views{.log_probabilities = b.now, .reference_log_probabilities = b.before};
  if (b.with_mask) views.mask = b.mask;
  if (b.with_old) views.old_log_probabilities = b.old;
  if (b.with_sampler) views.sampler_log_probabilities = b.sampler, views.sampler_weights = b.mode;
  const auto out = step(views, rewards);
  fuzz::require(std::isfinite(out.loss), "the loss is finite");
  fuzz::require(out.gradient.rows() == b.P * b.M && out.gradient.cols() == b.T, "the gradient has the batch's shape");
  for (Index i = 0; i < out.gradient.rows(); ++i)
    for (Index t = 0; t < b.T; ++t) {
      const S g = out.gradient(i, t);
      fuzz::require(std::isfinite(g), "the gradient is finite");
      const bool masked = b.with_mask && b.mask(i, t) == 0, missing = std::isnan(rewards.data()[i]);
      fuzz::require(!(masked || missing) || g == 0, "masked tokens and unscored responses have no gradient");
    }
  const auto flat = step(views, b.prompt, flattened(rewards));
  fuzz::require(flat.loss == out.loss && same(flat.gradient, out.gradient), "a flat batch has the result of a matrix");

  // What is at masked tokens does not matter.
  if (!b.with_mask) return;
  auto other = b;
  for (auto* m : {&other.now, &other.before, &other.old, &other.sampler})
    for (Index i = 0; i < m->size(); ++i)
      if (b.mask.data()[i] == 0) m->data()[i] = std::numeric_limits<S>::quiet_NaN();
  views.log_probabilities = other.now, views.reference_log_probabilities = other.before;
  if (b.with_old) views.old_log_probabilities = other.old;
  if (b.with_sampler) views.sampler_log_probabilities = other.sampler;
  const auto again = step(views, rewards);
  fuzz::require(again.loss == out.loss && same(again.gradient, out.gradient),
                "the values of masked tokens do not matter");
}

template <class S>
void run(fuzz::bytes& in) {
  const int combination = in.up_to(9);
  const batch<S> b = read<S>(in);
  const auto attempt = [](const auto& f) {
    try {
      f();
      return true;
    } catch (const std::invalid_argument& error) {
      fuzz::require_message(error);
      return false;
    }
  };

  matrix<S> u, shaped = b.rewards;
  const bool ranked = attempt([&] { u = calibrate(b.reference, b.rewards, mid_rank{}, b.on_unscored); });
  const bool ranked_flat = attempt([&] {
    const auto v = calibrate(b.reference, b.prompt, flattened(b.rewards), mid_rank{}, b.on_unscored);
    if (ranked)
      fuzz::require(same(matrix<S>(v.transpose()), matrix<S>(flattened(u).transpose())),
                    "flat ranks are those of the matrix");
  });
  fuzz::require(ranked == ranked_flat || b.M == 0, "a flat batch is refused if the matrix is");
  if (ranked) {
    check_ranks(b, u);
    attempt([&] {
      shaped = transform(u, normalized_exponential{static_cast<double>(in.up_to(200)) - 100}, b.on_unscored);
      for (Index i = 0; i < shaped.size(); ++i)
        fuzz::require(
            std::isnan(u.data()[i]) ? std::isnan(shaped.data()[i]) : shaped.data()[i] >= 0 && shaped.data()[i] <= 1,
            "a shaped reward is in [0, 1]");
    });
  }
  attempt([&] { calibrate_leave_one_out(b.rewards, mid_rank{}, b.on_unscored); });

  const auto step = [&](const auto& kl, const auto& estimator, const auto& f, const auto& mean) {
    attempt([&] { check_step(b, shaped, policy_gradient{kl, estimator, f, mean, b.on_unscored}); });
    attempt([&] { check_step(b, b.rewards, policy_gradient{kl, estimator, f, mean, b.on_unscored}); });
  };
  switch (combination) {
    case 0:
      return step(no_kl{}, leave_one_out{}, reinforce{}, sequence_mean_of_token_sums{});
    case 1:
      return step(k1_in_reward{.beta = 0.1}, group_standardized{}, ppo_clip{.dual = 3}, token_mean{});
    case 2:
      return step(k1_reward_to_go{.beta = 0.1}, leave_one_out{}, cispo{}, token_mean{});
    case 3:
      return step(k2_loss{.beta = 0.1}, batch_mean{}, sequence_clip{}, sequence_mean_of_token_sums{});
    case 4:
      return step(k3_loss{.beta = 0.1}, group_mean{}, gspo_clip{}, sequence_mean_of_token_sums{});
    case 5:
      return step(k3_token_loss{.beta = 0.1}, max_at_n{2}, ppo_clip{}, sequence_mean_of_token_means{});
    case 6:
      return step(k2_token_loss{.beta = 0.1}, batch_standardized{}, ppo_clip{}, token_mean{});
    case 7:
      return step(k1_in_reward{.beta = 0.1}, no_baseline{}, sequence_clip{.low = 1, .high = 1e6},
                  sequence_mean_of_token_sums{});
    case 8:
      return step(k1_reward_to_go{.beta = 0.1}, min_at_n{2}, ppo_clip{}, sequence_mean_of_token_means{});
    default:
      return step(k3_token_loss{.beta = 0.1}, no_baseline{}, cispo{}, token_mean{});
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuzz::bytes in(data, size);
  if (in.flag())
    run<float>(in);
  else
    run<double>(in);
  return 0;
}
