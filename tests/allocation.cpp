// SPDX-License-Identifier: MIT
// What a training loop calls again and again allocates nothing after its first time round.
#include "catch.hpp"

#include <infalign/infalign.hpp>

#include <cstdlib>
#include <new>
#include <vector>

using namespace infalign;

namespace {
std::size_t allocations = 0;  // by operator new and by malloc
}

// Eigen allocates with malloc, the standard library with operator new, which calls malloc. Not inlined: GCC
// would take an inlined free for one of the wrong kind.
extern "C" void* __real_malloc(std::size_t);
extern "C" void* __wrap_malloc(std::size_t size) {
  ++allocations;
  return __real_malloc(size);
}
[[gnu::noinline]] void* operator new(std::size_t size) {
  ++allocations;
  if (void* p = __real_malloc(size)) return p;
  throw std::bad_alloc();
}
[[gnu::noinline]] void* operator new(std::size_t size, std::align_val_t alignment) {
  ++allocations;
  if (void* p = std::aligned_alloc(static_cast<std::size_t>(alignment), (size + 63) / 64 * 64 + 64)) return p;
  throw std::bad_alloc();
}
[[gnu::noinline]] void* operator new(std::size_t size, std::align_val_t alignment, const std::nothrow_t&) noexcept {
  ++allocations;
  return std::aligned_alloc(static_cast<std::size_t>(alignment), (size + 63) / 64 * 64 + 64);
}
[[gnu::noinline]] void operator delete(void* p) noexcept {
  std::free(p);
}
[[gnu::noinline]] void operator delete(void* p, std::size_t) noexcept {
  std::free(p);
}
[[gnu::noinline]] void operator delete(void* p, std::align_val_t) noexcept {
  std::free(p);
}
[[gnu::noinline]] void operator delete(void* p, std::size_t, std::align_val_t) noexcept {
  std::free(p);
}

namespace {

/// How many allocations f's first call makes, and the three that follow together.
template <class F>
std::pair<std::size_t, std::size_t> allocations_of(const F& f) {
  const auto before = allocations;
  f();
  const auto first = allocations;
  for (int i = 0; i < 3; ++i) f();
  return {first - before, allocations - first};
}
template <class F>
std::size_t later_allocations_of(const F& f) {
  return allocations_of(f).second;
}

const matrix<float> reference = matrix<float>::Random(6, 40), rewards = matrix<float>::Random(6, 8);
const array<float> flat = array<float>::Random(48);
const std::vector<int> prompt = [] {
  std::vector<int> p(48);
  for (int i = 0; i < 48; ++i) p[static_cast<std::size_t>(i)] = i * 5 % 6;
  return p;
}();

}  // namespace

TEST_CASE("The counter counts what Eigen and the standard library allocate") {
  CHECK(later_allocations_of([] { transform(rewards.abs().min(1.0f), exponential{.t = 1}); }) >= 3);
  [[maybe_unused]] static const void* volatile seen;  // what nobody sees a compiler need not allocate
  CHECK(later_allocations_of([] {
          const std::vector<double> v(100, 1.0);
          seen = v.data();
        }) == 3);
  CHECK(later_allocations_of([] { calibrate_leave_one_out(rewards); }) >= 3);
}

TEST_CASE("Calibrating, transforming and shaping into a buffer allocate nothing, not even at first") {
  matrix<float> u(6, 8);
  array<float> v(48);
  const auto shape = calibration{Eigen::Map<const matrix<float>>(reference.data(), 6, 40)} | exponential{.t = 10} |
                     power{.exponent = 2};
  const auto nothing = std::pair<std::size_t, std::size_t>(0, 0);
  CHECK(allocations_of([&] { calibrate_into(u, reference, rewards); }) == nothing);
  CHECK(allocations_of([&] { calibrate_into(v, reference, prompt, flat); }) == nothing);
  CHECK(allocations_of([&] { transform_into(u, u.cwiseMin(1.0f).cwiseMax(0.0f), normalized_exponential{.t = 4}); }) ==
        nothing);
  CHECK(allocations_of([&] { shape.into(u, rewards); }) == nothing);
  CHECK(allocations_of([&] { shape.into(v, prompt, flat); }) == nothing);
  CHECK((u == shape(rewards)).all());
  CHECK((v == shape(prompt, flat)).all());
}

TEST_CASE("What needs more than its result keeps it in a workspace: no allocation from the second time on") {
  workspace space;
  matrix<float> u;
  array<float> v;
  CHECK(later_allocations_of([&] { calibrate_leave_one_out_into(u, space, rewards); }) == 0);
  CHECK((u == calibrate_leave_one_out(rewards)).all());
  CHECK(later_allocations_of([&] { calibrate_leave_one_out_into(v, space, prompt, flat); }) == 0);
  CHECK((v == calibrate_leave_one_out(prompt, flat)).all());

  CHECK(later_allocations_of([&] { advantage_into(u, space, rewards, leave_one_out{}); }) == 0);
  CHECK((u == advantage(rewards, leave_one_out{})).all());
  CHECK(later_allocations_of([&] { advantage_into(v, space, prompt, flat, group_standardized{}); }) == 0);
  CHECK((v == advantage(prompt, flat, group_standardized{})).all());

  CHECK(later_allocations_of([&] { advantage_into(u, space, rewards, max_at_n{.n = 3}); }) == 0);
  CHECK((u == advantage(rewards, max_at_n{.n = 3})).all());
  CHECK(later_allocations_of([&] { advantage_into(u, space, rewards, min_at_n{.n = 3}); }) == 0);
  CHECK((u == advantage(rewards, min_at_n{.n = 3})).all());
  CHECK(later_allocations_of([&] { advantage_into(v, space, prompt, flat, centered_max_at_n{.n = 3}); }) == 0);
  CHECK((v == advantage(prompt, flat, centered_max_at_n{.n = 3})).all());

  array<double> w;
  CHECK(later_allocations_of([&] { win_rates_into(w, space, rewards, reference, best_of{4}, best_of{4}); }) == 0);
  CHECK((w == win_rates(rewards, reference, best_of{4})).all());
}

TEMPLATE_TEST_CASE("A step into a result and a workspace allocates nothing from the second time on", "", float,
                   double) {
  using S = TestType;
  const matrix<S> now = matrix<S>::Random(48, 100) - 2, before = matrix<S>::Random(48, 100) - 2,
                  old = now + S(0.1) * matrix<S>::Random(48, 100),
                  mask = (matrix<S>::Random(48, 100) > 0).template cast<S>();
  const token_batch<S> batch{
      .log_probabilities = now, .reference_log_probabilities = before, .mask = mask, .behavior_log_probabilities = old};
  const matrix<S> r = rewards.cast<S>();
  const array<S> f = flat.cast<S>();
  workspace space;
  step_result<S> out;
  const auto check = [&](const auto& step) {
    CHECK(later_allocations_of([&] { step.into(out, space, batch, r); }) == 0);
    const auto rows = step(batch, r);
    CHECK(out.loss == rows.loss);
    CHECK((out.gradient == rows.gradient).all());
    CHECK(later_allocations_of([&] { step.into(out, space, batch, prompt, f); }) == 0);
    const auto grouped = step(batch, prompt, f);
    CHECK(out.loss == grouped.loss);
    CHECK((out.gradient == grouped.gradient).all());
    CHECK(out.metrics.kl == grouped.metrics.kl);
  };
  check(policy_gradient{k3_token_loss{.beta = 0.04}, group_standardized{}, ppo_clip{}, token_mean{}});
  check(policy_gradient{k1_in_reward{.beta = 0.04}, leave_one_out{}, sequence_clip{}});
  check(policy_gradient{k1_reward_to_go{.beta = 0.04}, group_mean{}, cispo{}});
  check(policy_gradient{k2_loss{.beta = 0.04}, batch_mean{}, gspo_clip{}});
}

TEST_CASE("A workspace serves any function and any size, and keeps the largest") {
  workspace space;
  const matrix<float> large = matrix<float>::Random(50, 30);
  matrix<float> u, v;
  calibrate_leave_one_out_into(u, space, large);
  CHECK((u == calibrate_leave_one_out(large)).all());
  v.resize(6, 8);
  CHECK(allocations_of([&] { calibrate_leave_one_out_into(v, space, rewards); }).first == 0);
  CHECK((v == calibrate_leave_one_out(rewards)).all());
  // One that threw is as good as new.
  matrix<float> bad = large;
  bad(49, 29) = std::numeric_limits<float>::quiet_NaN();
  CHECK_THROWS(advantage_into(u, space, bad, leave_one_out{}));
  calibrate_leave_one_out_into(u, space, large);
  CHECK((u == calibrate_leave_one_out(large)).all());
}
