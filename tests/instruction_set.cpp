// SPDX-License-Identifier: MIT
// Every loop that is compiled for several instruction sets gives the same bits with each that this machine has.
#include <infalign/instruction_set.hpp>

#include "arrays.hpp"

#include <infalign/infalign.hpp>

#include <bit>
#include <cstdint>
#include <random>
#include <vector>

using namespace infalign;
using Eigen::Index;

namespace {

/// True if f returns equal numbers with the baseline and with the widest instruction set of this machine.
template <class F>
bool same_with_each(const F& f) {
  const auto before = limit_instruction_set(instruction_set::baseline);
  const auto with_baseline = f();
  limit_instruction_set(before);
  return with_baseline == f();
}

std::uint64_t bits_of_number(double x) {
  return std::bit_cast<std::uint64_t>(x);
}
template <class Numbers>
void append(std::vector<std::uint64_t>& bits, const Numbers& numbers) {
  for (const auto x : numbers.reshaped()) bits.push_back(bits_of_number(static_cast<double>(x)));
}

template <real_scalar S>
matrix<S> uniform(Index rows, Index columns, unsigned seed) {
  std::mt19937 random(seed);
  return matrix<S>::NullaryExpr(rows, columns, [&] { return static_cast<S>(random()) * static_cast<S>(0x1p-32); });
}

}  // namespace

TEST_CASE("The limit is what was set, and the active set obeys it") {
  const auto widest = active_instruction_set();
  CHECK(limit_instruction_set(instruction_set::baseline) == instruction_set::avx2);
  CHECK(active_instruction_set() == instruction_set::baseline);
  CHECK(limit_instruction_set(instruction_set::avx2) == instruction_set::baseline);
  CHECK(active_instruction_set() == widest);
#if INFALIGN_HAS_DISPATCH
  if (widest == instruction_set::baseline) WARN("This machine has no AVX2: one instruction set is tested.");
#else
  CHECK(widest == instruction_set::baseline);
#endif
}

TEMPLATE_TEST_CASE("Ranks have the same bits with each instruction set", "", float, double) {
  using S = TestType;
  for (const Index K : {1, 7, 31, 32, 33, 100, 1'000})
    for (const Index M : {1, 3, 8, 13}) {
      matrix<S> reference = uniform<S>(9, K, 1), rewards = uniform<S>(9, M, 2);
      rewards.col(0) = reference.col(K / 2);
      matrix<S> with_nan = reference;
      with_nan(4, 0) = std::numeric_limits<S>::quiet_NaN();
      CHECK(same_with_each([&] {
        std::vector<std::uint64_t> all;
        append(all, calibrate(reference, rewards));
        append(all, calibrate(with_nan, rewards, mid_rank{}, unscored::propagate));
        return all;
      }));
    }
}

TEMPLATE_TEST_CASE("Transforms have the same bits with each instruction set", "", float, double) {
  using S = TestType;
  const matrix<S> u = uniform<S>(1, 1'000, 3);
  const auto same = [&](const auto& phi) {
    return same_with_each([&] {
      std::vector<std::uint64_t> all;
      append(all, transform(u, phi));
      return all;
    });
  };
  for (const double t : {-60.0, -3.3, 0.7, 10.0, 77.0}) {
    CHECK(same(exponential{t}));
    CHECK(same(normalized_exponential{t}));
  }
  CHECK(same(power{7}));
  CHECK(same(logarithm{}));
  CHECK(same([](S x) { return vectorized::exp(-20 * x); }));
  CHECK(same([](S x) { return vectorized::log1p(x); }));
  CHECK(same([](S x) { return vectorized::tanh(3 * x); }));
  CHECK(same([](S x) { return vectorized::sigmoid(x - 7); }));
  CHECK(same([](S x) { return vectorized::pow(x, static_cast<S>(0.3)); }));
}

TEMPLATE_TEST_CASE("Steps have the same bits with each instruction set", "", float, double) {
  using S = TestType;
  for (const Index T : {1, 63, 64, 65, 200}) {
    const Index B = 12;
    const matrix<S> now = uniform<S>(B, T, 4) - 2, reference = uniform<S>(B, T, 5) - 2, old = uniform<S>(B, T, 6) - 2,
                    sampler = uniform<S>(B, T, 7) - 2, rewards = uniform<S>(3, 4, 8);
    const matrix<S> mask = (uniform<S>(B, T, 9) > S{0.25}).template cast<S>();
    const auto same = [&](const auto& step, const token_batch<S>& batch) {
      return same_with_each([&] {
        const auto out = step(batch, rewards);
        std::vector<std::uint64_t> all{bits_of_number(out.loss), bits_of_number(out.metrics.kl),
                                       bits_of_number(out.metrics.clip_ratio)};
        append(all, out.gradient);
        return all;
      });
    };
    CHECK(same(policy_gradient{k3_token_loss{.beta = 0.1}, group_standardized{}, ppo_clip{}, token_mean{}},
               {.log_probabilities = now, .reference_log_probabilities = reference, .old_log_probabilities = old}));
    CHECK(same(policy_gradient{k1_in_reward{.beta = 0.1}, leave_one_out{}},
               {.log_probabilities = now, .reference_log_probabilities = reference, .mask = mask}));
    CHECK(same(policy_gradient{k2_loss{.beta = 0.1}, leave_one_out{}, ppo_clip{}},
               {.log_probabilities = now,
                .reference_log_probabilities = reference,
                .mask = mask,
                .old_log_probabilities = old,
                .sampler_log_probabilities = sampler}));
  }
}
