// SPDX-License-Identifier: MIT
// What the library costs, per item: tests/benchmark/run prints it beside what NumPy and Torch cost.
#include <infalign/infalign.hpp>

#include <benchmark/benchmark.h>

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <vector>

namespace {

using namespace infalign;
using benchmark::State;
using Eigen::Index;

template <real_scalar S>
matrix<S> uniform(Index rows, Index columns) {
  static std::mt19937 random(1);
  return matrix<S>::NullaryExpr(rows, columns, [&] { return static_cast<S>(random()) * S(0x1p-32); });
}

void items(State& state, Index per_iteration) {
  state.SetItemsProcessed(static_cast<std::int64_t>(state.iterations()) * per_iteration);
}

template <real_scalar S>
void calibrate_rows(State& state) {
  const Index P = state.range(0), K = state.range(1), M = state.range(2);
  const matrix<S> reference = uniform<S>(P, K), rewards = uniform<S>(P, M);
  matrix<S> result(P, M);
  for (auto _ : state) {
    calibrate_into(result, reference, rewards);
    benchmark::DoNotOptimize(result.data());
  }
  items(state, P * M);
}

/// As above, with rows that are sorted. `sort`: the time to sort them.
template <real_scalar S>
void calibrate_sorted_rows(State& state) {
  const Index P = 1'000, K = state.range(0), M = 8;
  const auto reference = sort_rewards(uniform<S>(P, K));
  const matrix<S> rewards = uniform<S>(P, M);
  matrix<S> result(P, M);
  for (auto _ : state) {
    calibrate_into(result, reference, rewards);
    benchmark::DoNotOptimize(result.data());
  }
  items(state, P * M);
}
void sort_table(State& state) {
  const matrix<float> reference = uniform<float>(1'000, 4'096);
  for (auto _ : state) benchmark::DoNotOptimize(sort_rewards(reference).row(0).data());
  items(state, reference.size());
}

/// Rewards of prompts that differ in level, and a prior of a given model.
template <prior_model model>
void calibrate_with_prior(State& state) {
  const Index P = 100'000, K = 128, M = 8;
  const array<float> level = uniform<float>(P, 1);
  const matrix<float> reference = uniform<float>(P, K).colwise() + level,
                      rewards = uniform<float>(P, M).colwise() + level;
  const calibration shape{reference, calibration_prior(reference, model)};
  matrix<float> result(P, M);
  for (auto _ : state) {
    shape.into(result, rewards);
    benchmark::DoNotOptimize(result.data());
  }
  items(state, P * M);
}

/// Making a prior, of 100,000 × 128.
void make_prior(State& state) {
  const array<float> level = uniform<float>(100'000, 1);
  const matrix<float> reference = uniform<float>(100'000, 128).colwise() + level;
  for (auto _ : state) {
    const calibration_prior prior(reference);
    benchmark::DoNotOptimize(prior.weight());
  }
  items(state, reference.size());
}

/// Cold rows: each response to another prompt, at random, of a table far larger than the caches.
constexpr Index many = 1'000'000, batch = 200'000;
const matrix<float>& large_table() {
  static const matrix<float> table = uniform<float>(many, 128);
  return table;
}
std::vector<int> random_prompts() {
  std::mt19937 random(2);
  std::vector<int> prompt(batch);
  for (auto& p : prompt) p = static_cast<int>(random() % many);
  return prompt;
}

void calibrate_cold_rows(State& state) {
  const auto& reference = large_table();
  const auto prompt = random_prompts();
  const array<float> rewards = uniform<float>(batch, 1);
  array<float> result(batch);
  for (auto _ : state) {
    calibrate_into(result, reference, prompt, rewards);
    benchmark::DoNotOptimize(result.data());
  }
  items(state, batch);
}

/// The same rows, read one by one by hand: copied to a buffer that stays in the cache, as what is read is compared there.
void gather_cold_rows(State& state) {
  const auto& reference = large_table();
  const auto prompt = random_prompts();
  matrix<float> result(16, 128);
  for (auto _ : state) {
    for (Index i = 0; i < batch; ++i)
      std::memcpy(&result(i % 16, 0), &reference(prompt[static_cast<std::size_t>(i)], 0), 512);
    benchmark::DoNotOptimize(result.data());
    benchmark::ClobberMemory();
  }
  items(state, batch);
}

template <real_scalar S>
void leave_one_out_ranks(State& state) {
  const matrix<S> rewards = uniform<S>(10'000, 8);
  matrix<S> result(rewards.rows(), rewards.cols());
  workspace space;
  for (auto _ : state) {
    calibrate_leave_one_out_into(result, space, rewards);
    benchmark::DoNotOptimize(result.data());
  }
  items(state, rewards.size());
}

template <real_scalar S, class F>
void transform_buffer(State& state, const F& phi) {
  const array<S> u = uniform<S>(10'000'000, 1);
  array<S> result(u.size());
  for (auto _ : state) {
    transform_into(result, u, phi);
    benchmark::DoNotOptimize(result.data());
  }
  items(state, u.size());
}
template <real_scalar S>
void exponential_into(State& state) {
  transform_buffer<S>(state, exponential{.t = 10});
}
template <real_scalar S>
void normalized_exponential_into(State& state) {
  transform_buffer<S>(state, normalized_exponential{.t = 10});
}
template <real_scalar S>
void lambda_into(State& state) {
  transform_buffer<S>(state, [](S u) { return vectorized::log(u + S{1}); });
}
template <real_scalar S>
void lambda_with_a_call_into(State& state) {
  transform_buffer<S>(state, [](S u) { return std::log(u + S{1}); });
}
template <real_scalar S>
void power_into(State& state) {
  transform_buffer<S>(state, power{.exponent = 7});
}
template <real_scalar S>
void tabulated_into(State& state) {
  transform_buffer<S>(state, optimal_transform(best_of{4}, at_beta{0.2}));
}

template <real_scalar S>
void copy(State& state) {
  const array<S> u = uniform<S>(10'000'000, 1);
  array<S> result(u.size());
  for (auto _ : state) {
    std::memcpy(result.data(), u.data(), static_cast<std::size_t>(u.size()) * sizeof(S));
    benchmark::DoNotOptimize(result.data());
  }
  items(state, u.size());
}

/// What the step reads and writes, and nothing else: three numbers in and one out.
template <real_scalar S>
void three_in_one_out(State& state) {
  const matrix<S> a = uniform<S>(state.range(0), state.range(1)), b = a, c = a;
  matrix<S> result(a.rows(), a.cols());
  for (auto _ : state) {
    result = a + b + c;
    benchmark::DoNotOptimize(result.data());
  }
  items(state, a.size());
}

template <real_scalar S>
struct tokens {
  matrix<S> now, reference, old, rewards;
  tokens(Index B, Index T)
      : now(uniform<S>(B, T).log()),
        reference(now + S(0.1) * (uniform<S>(B, T) - S(0.5))),
        old(now + S(0.4) * (uniform<S>(B, T) - S(0.5))),
        rewards(uniform<S>(B / 8, 8)) {}
};

template <real_scalar S>
void step_clip_k3(State& state) {
  const tokens<S> t(state.range(0), state.range(1));
  const policy_gradient step{k3_token_loss{.beta = 0.04}, group_standardized{}, ppo_clip{}, token_mean{}};
  const token_batch<S> batch{
      .log_probabilities = t.now, .reference_log_probabilities = t.reference, .old_log_probabilities = t.old};
  workspace space;
  step_result<S> out;
  for (auto _ : state) {
    step.into(out, space, batch, t.rewards);
    benchmark::DoNotOptimize(out.gradient.data());
  }
  items(state, t.now.size());
}

template <real_scalar S>
void step_reinforce_k1(State& state) {
  const tokens<S> t(state.range(0), state.range(1));
  const policy_gradient step{k1_in_reward{.beta = 0.04}, leave_one_out{}};
  const token_batch<S> batch{.log_probabilities = t.now, .reference_log_probabilities = t.reference};
  workspace space;
  step_result<S> out;
  for (auto _ : state) {
    step.into(out, space, batch, t.rewards);
    benchmark::DoNotOptimize(out.gradient.data());
  }
  items(state, t.now.size());
}

void solve_best_of_4(State& state) {
  for (auto _ : state) benchmark::DoNotOptimize(optimal_transform(best_of{4}, at_beta{0.2}));
  items(state, 1);
}
void solve_best_of_4_at_kl(State& state) {
  for (auto _ : state) benchmark::DoNotOptimize(optimal_transform(best_of{4}, at_kl{0.5}));
  items(state, 1);
}

void win_rate_best_of_4(State& state) {
  const matrix<float> policy = uniform<float>(1'000, 64), reference = uniform<float>(1'000, 128);
  for (auto _ : state) benchmark::DoNotOptimize(win_rates(policy, reference, best_of{4}));
  items(state, policy.rows());
}

void all_sizes(benchmark::internal::Benchmark* b) {
  for (Index K = 4; K <= 4'096; K *= 2) b->Args({1'000, K, 8});
}

BENCHMARK(calibrate_rows<float>)->Args({100'000, 128, 8})->Unit(benchmark::kMillisecond);
BENCHMARK(calibrate_rows<double>)->Args({100'000, 128, 8})->Unit(benchmark::kMillisecond);
BENCHMARK(calibrate_rows<float>)->Apply(all_sizes);
BENCHMARK(calibrate_rows<double>)->Apply(all_sizes);
BENCHMARK(calibrate_sorted_rows<float>)->RangeMultiplier(4)->Range(256, 4'096);
BENCHMARK(calibrate_sorted_rows<double>)->RangeMultiplier(4)->Range(256, 4'096);
BENCHMARK(sort_table)->Unit(benchmark::kMillisecond);
BENCHMARK(calibrate_rows<float>)->ArgsProduct({{100, 1'000, 10'000, 100'000}, {32}, {8}});
BENCHMARK(calibrate_rows<float>)->ArgsProduct({{1'000}, {128}, {1, 10, 100, 1'000}});
BENCHMARK(calibrate_rows<float>)->ArgsProduct({{10}, {1'024, 4'096}, {100, 1'000}});
BENCHMARK(calibrate_with_prior<prior_model::pooled>)->Unit(benchmark::kMillisecond);
BENCHMARK(calibrate_with_prior<prior_model::location>)->Unit(benchmark::kMillisecond);
BENCHMARK(calibrate_with_prior<prior_model::location_scale>)->Unit(benchmark::kMillisecond);
BENCHMARK(make_prior)->Unit(benchmark::kMillisecond);
BENCHMARK(calibrate_cold_rows)->Unit(benchmark::kMillisecond);
BENCHMARK(gather_cold_rows)->Unit(benchmark::kMillisecond);
BENCHMARK(leave_one_out_ranks<float>);
BENCHMARK(leave_one_out_ranks<double>);
BENCHMARK(exponential_into<float>)->Unit(benchmark::kMillisecond);
BENCHMARK(exponential_into<double>)->Unit(benchmark::kMillisecond);
BENCHMARK(normalized_exponential_into<float>)->Unit(benchmark::kMillisecond);
BENCHMARK(lambda_into<float>)->Unit(benchmark::kMillisecond);
BENCHMARK(lambda_into<double>)->Unit(benchmark::kMillisecond);
BENCHMARK(lambda_with_a_call_into<float>)->Unit(benchmark::kMillisecond);
BENCHMARK(power_into<float>)->Unit(benchmark::kMillisecond);
BENCHMARK(tabulated_into<float>)->Unit(benchmark::kMillisecond);
BENCHMARK(copy<float>)->Unit(benchmark::kMillisecond);
BENCHMARK(copy<double>)->Unit(benchmark::kMillisecond);
BENCHMARK(three_in_one_out<float>)->Args({512, 2'048})->Args({8'000, 1'250})->Unit(benchmark::kMillisecond);
BENCHMARK(step_clip_k3<float>)->Args({512, 2'048})->Unit(benchmark::kMillisecond);
BENCHMARK(step_clip_k3<double>)->Args({512, 2'048})->Unit(benchmark::kMillisecond);
BENCHMARK(step_clip_k3<float>)->ArgsProduct({{8, 80, 800, 8'000}, {1'250}});
BENCHMARK(step_reinforce_k1<float>)->Args({512, 2'048})->Unit(benchmark::kMillisecond);
BENCHMARK(solve_best_of_4)->Unit(benchmark::kMillisecond);
BENCHMARK(solve_best_of_4_at_kl)->Unit(benchmark::kMillisecond);
BENCHMARK(win_rate_best_of_4)->Unit(benchmark::kMillisecond);

}  // namespace

// With INFALIGN_BASELINE set, loops have the instruction set that the program is compiled for.
int main(int argc, char** argv) {
  if (std::getenv("INFALIGN_BASELINE")) infalign::limit_instruction_set(infalign::instruction_set::baseline);
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
}
