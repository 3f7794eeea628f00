// SPDX-License-Identifier: MIT
// Const calls of one object in 16 threads at once have the results of one call after another. The campaign runs this with
// the thread sanitizer (tests/campaign/flags threads).
#include <infalign/infalign.hpp>

#include "batches.hpp"

#include <atomic>
#include <string>
#include <thread>
#include <vector>

using namespace infalign;

namespace {

/// True if f() gives the same array in 16 threads, 20 times each, as in this one.
template <class F>
bool same_in_threads(const F& f) {
  const auto expected = f();
  std::atomic<int> unlike = 0, waiting = 16;
  const auto run = [&] {
    --waiting;
    while (waiting > 0) std::this_thread::yield();  // all start together
    for (int round = 0; round < 20; ++round) unlike += !same(f(), expected);
  };
  std::vector<std::thread> threads;
  for (int i = 0; i < 16; ++i) threads.emplace_back(run);
  for (auto& thread : threads) thread.join();
  return unlike == 0;
}

}  // namespace

TEST_CASE("Const functors may be called in many threads at once") {
  const buffers<> b(1);
  const matrix<double> reference = matrix<double>::Random(b.P, 9);
  const std::vector<int> prompt{3, 3, 0, 1, 0, 0, 2, 1, 3, 2, 2, 1};
  const auto flat = b.flat();
  const auto check = [&](const char* what, const auto& f) {
    INFO(what);
    CHECK(same_in_threads(f));
  };

  const calibration plain{reference};
  const calibration with_prior{reference, calibration_prior<double>{reference, prior_model::location, 3}};
  const auto shape = calibration{reference, tabulated_rank{unbiased_power{2}, 9}} |
                     tabulated{array<double>{{0, 0.3, 1}}, array<double>{{0, 2, 3}}} | normalized_exponential{.t = 3};
  check("calibration", [&] { return plain(b.rewards); });
  check("calibration, flat", [&] { return plain(prompt, flat); });
  check("calibration with a prior", [&] { return with_prior(prompt, flat); });
  check("shaping", [&] { return shape(b.rewards); });
  check("leave-one-out", [&] { return calibrate_leave_one_out(prompt, flat); });
  check("advantage", [&] { return advantage(prompt, flat, max_at_n{2}); });
  const joint_calibration several{rank_product{}, reference, reference};
  check("several rewards", [&] { return several(b.rewards, b.rewards); });

  const policy_gradient step{k1_reward_to_go{.beta = 0.1}, leave_one_out{}, ppo_clip{}, token_mean{}};
  const policy_advantages credit{k1_in_reward{.beta = 0.1}, batch_standardized{}};
  const policy_loss loss{k3_token_loss{.beta = 0.1}, ppo_clip{}, token_mean{}};
  check("step", [&] { return step(b.sampled(), b.rewards).gradient; });
  check("step, flat", [&] { return step(b.sampled(), prompt, flat).gradient; });
  check("advantages", [&] { return credit(b.off_policy(), prompt, flat); });
  check("loss", [&] { return loss(b.sampled(), flat).gradient; });

  check("win rates", [&] { return win_rates(b.rewards, reference, best_of{2}); });
  check("optimum", [&] { return array<double>(optimal_transform(best_of{4}, at_beta{0.1}).transform.value); });

  const prompt_keys keys{std::vector<std::string>{"a", "b", "c"}};
  check("prompt_keys", [&] {
    const auto found = keys(std::vector<std::string>{"c", "a", "b", "a"});
    return array<double>(
        Eigen::Map<const Eigen::Array<Eigen::Index, Eigen::Dynamic, 1>>(found.data(), 4).cast<double>());
  });
}
