// SPDX-License-Identifier: MIT
// expected FOLDER: writes inputs, and what the C++ library makes of them, for test_numbers.py.
#include <infalign/adapters/npy.hpp>
#include <infalign/infalign.hpp>

#include <filesystem>
#include <random>
#include <string>

using namespace infalign;

namespace {

template <real_scalar S>
void write(const std::filesystem::path& folder) {
  const std::string suffix = std::same_as<S, float> ? "_float.npy" : "_double.npy";
  const auto save = [&](const std::string& name, const auto& values) { write_npy(folder / (name + suffix), values); };
  std::mt19937 random(5);
  const auto draw = [&] { return static_cast<S>(static_cast<int>(random() % 4001) - 2000) / 256; };
  const matrix<S> reference = matrix<S>::NullaryExpr(7, 40, draw), other = matrix<S>::NullaryExpr(7, 40, draw),
                  rewards = matrix<S>::NullaryExpr(7, 6, draw), more = matrix<S>::NullaryExpr(7, 6, draw);
  const Eigen::Array<std::int64_t, Eigen::Dynamic, 1> prompt =
      Eigen::Array<std::int64_t, Eigen::Dynamic, 1>::NullaryExpr(
          42, [&] { return static_cast<std::int64_t>(random() % 7); });
  const array<S> flat = array<S>::NullaryExpr(42, draw);
  save("reference", reference), save("other", other), save("rewards", rewards), save("more", more), save("flat", flat);
  write_npy(folder / ("prompt" + suffix), prompt);

  const auto u = calibrate(reference, rewards);
  save("u", u);
  save("u_flat", calibrate(reference, prompt, flat, add_one_rank{}));
  save("u_strict", calibrate(reference, rewards, strict_rank{}));
  save("u_weak", calibrate(reference, rewards, weak_rank{}));
  save("u_power", calibrate(reference, rewards, unbiased_power{3}));
  save("u_prior", calibrate(reference, calibration_prior<S>(reference), rewards));
  save("u_out", calibrate_leave_one_out(rewards));
  save("joint", joint_calibration{rank_minimum{}, reference, other}(rewards, more));
  const weighted_rank_sum weighted{array<double>{{0.3, 1, 0.2}}};
  save("joint_of_three", joint_calibration{weighted, add_one_rank{}, reference, other, reference}(rewards, more, more));
  save("exponential", transform(u, exponential{-3}));
  save("shaped", (calibration{reference} | normalized_exponential{10} | power{2})(rewards));
  save("advantage", advantage(rewards, group_standardized{}));
  save("credit", advantage(prompt, flat, order_weighted{order_weights(soft_best_of{2, 3})}));

  const auto log_probability = [&] { return -static_cast<S>(random() % 1000) / 200; };
  const matrix<S> now = matrix<S>::NullaryExpr(42, 70, log_probability),
                  before = matrix<S>::NullaryExpr(42, 70, log_probability), old = now.unaryExpr([&](S x) {
                    return x + static_cast<S>(static_cast<int>(random() % 200) - 100) / 500;
                  });
  const matrix<S> mask = matrix<S>::NullaryExpr(42, 70, [&] { return static_cast<S>(random() % 4 > 0); });
  save("now", now), save("before", before), save("old", old), save("mask", mask);
  const token_batch<S> batch{.log_probabilities = now, .reference_log_probabilities = before, .mask = mask};
  token_batch<S> off_policy = batch;
  off_policy.old_log_probabilities = old;
  const auto step = [&](const std::string& name, const auto& out) {
    save("gradient_" + name, out.gradient);
    write_npy(folder / ("loss_" + name + suffix),
              array<double>{{out.loss, out.metrics.kl, out.metrics.ratio, out.metrics.advantage_std}});
  };
  step("reinforce", policy_gradient{k1_in_reward{0.1}, leave_one_out{}}(batch, u));
  step("to_go", policy_gradient{k1_reward_to_go{0.1}, group_mean{}}(batch, u));
  step("ppo",
       policy_gradient{k3_token_loss{0.1}, group_standardized{}, ppo_clip{0.2, 0.28}, token_mean{}}(off_policy, u));
  step("sequence", policy_gradient{k2_loss{0.1}, max_at_n{2}, sequence_clip{}}(off_policy, prompt, flat));
  step("regression", policy_gradient{no_kl{}, no_baseline{}, regression{0.3}}(batch, u));
  const auto a = policy_advantages{k1_in_reward{0.1}, leave_one_out{}}(batch, u);
  save("advantages", a);
  step("raw", policy_gradient{no_kl{}, no_baseline{}}(batch, u));
  step("k3", policy_gradient{k3_loss{0.1}, group_mean{}, gspo_clip{}}(off_policy, u));
  step("k2_token", policy_gradient{k2_token_loss{0.1}, no_baseline{}, cispo{}, token_mean{}}(off_policy, u));
  const auto to_go = policy_advantages{k1_reward_to_go{0.1}, leave_one_out{}}(batch, u);
  save("advantages_to_go", to_go);
  step("tokens", policy_loss{no_kl{}, ppo_clip{}}(off_policy, to_go, batch_size{100, 5000}));
  step("part", policy_loss{no_kl{}, cispo{}, sequence_mean_of_token_means{}}(off_policy, a, batch_size{100, 5000}));
}

}  // namespace

int main(int, char** arguments) {
  std::filesystem::create_directories(arguments[1]);
  write<float>(arguments[1]);
  write<double>(arguments[1]);
}
