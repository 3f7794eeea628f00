// SPDX-License-Identifier: MIT
// Built with and without OpenMP: results have the same bits for any number of threads, and the first error is reported.
#include "catch.hpp"

#include <infalign/infalign.hpp>

#include <limits>
#include <stdexcept>
#include <string>
#include <vector>
#if defined(_OPENMP)
#include <omp.h>
#endif
#if __has_include(<sys/wait.h>)
#include <sys/wait.h>
#include <unistd.h>
#endif

using namespace infalign;

namespace {

/// f's results with 1, 2, 3 and 7 threads; one result without OpenMP.
template <class F>
auto with_threads(const F& f) {
  std::vector<decltype(f())> results;
#if defined(_OPENMP)
  const int before = omp_get_max_threads();
  for (int n : {1, 2, 3, 7}) {
    omp_set_num_threads(n);
    results.push_back(f());
  }
  omp_set_num_threads(before);
#else
  results.push_back(f());
#endif
  return results;
}

}  // namespace

TEST_CASE("Rows are shared among the threads if there is much work, each row once") {
  const auto times = with_threads([] {
    std::vector<int> calls(10'000, 0);
    detail::for_each_row(10'000, 1e9, [&](Eigen::Index i) { ++calls[static_cast<std::size_t>(i)]; });
    return calls;
  });
  for (const auto& calls : times) CHECK(calls == std::vector<int>(10'000, 1));
#if defined(_OPENMP)
  omp_set_num_threads(3);
  std::vector<int> thread(300, -1);
  detail::for_each_row(300, 1e9, [&](Eigen::Index i) { thread[static_cast<std::size_t>(i)] = omp_get_num_threads(); });
  CHECK(thread == std::vector<int>(300, 3));
  detail::for_each_row(300, 0, [&](Eigen::Index i) { thread[static_cast<std::size_t>(i)] = omp_get_num_threads(); });
  CHECK(thread == std::vector<int>(300, 1));
#endif
}

TEST_CASE("Pieces cover all numbers, in multiples of 1,024") {
  for (Eigen::Index n : {0, 1, 1'023, 1'024, 1'025, 5'000}) {
    std::vector<int> seen(static_cast<std::size_t>(n), 0);
    detail::for_each_piece(n, 1e9, [&](Eigen::Index first, Eigen::Index end) {
      CHECK(first % 1'024 == 0);
      for (auto i = first; i < end; ++i) ++seen[static_cast<std::size_t>(i)];
    });
    CHECK(seen == std::vector<int>(static_cast<std::size_t>(n), 1));
  }
}

TEST_CASE("If several rows throw, the exception of the first is rethrown") {
  for (const auto& text : with_threads([] {
         return error_of([] {
           detail::for_each_row(1'000, 1e9, [](Eigen::Index i) {
             if (i % 100 == 57) throw std::invalid_argument("row " + std::to_string(i));
           });
         });
       }))
    CHECK(text == "row 57");
}

TEMPLATE_TEST_CASE("The bits of ranks, transforms and steps do not depend on the threads", "", float, double) {
  using S = TestType;
  const Eigen::Index P = 300, K = 70, M = 8, T = 90;
  const matrix<S> reference = matrix<S>::Random(P, K), rewards = matrix<S>::Random(P, M);
  const array<S> flat = array<S>::Random(5'000);
  std::vector<int> prompt(5'000);
  for (std::size_t i = 0; i < prompt.size(); ++i) prompt[i] = static_cast<int>(i / 3 * 7 % P);

  const auto u = with_threads([&] { return calibrate(reference, rewards); });
  const auto v = with_threads([&] { return calibrate(reference, prompt, flat); });
  const array<S> many = array<S>::Random(100'000).abs();
  const auto y = with_threads([&] { return transform(many, exponential{.t = -10}); });
  for (std::size_t n = 0; n < u.size(); ++n) {
    CHECK((u[n] == u[0]).all());
    CHECK((v[n] == v[0]).all());
    CHECK((y[n] == y[0]).all());
  }
  // Each row, response and number has the result that it has alone.
  CHECK((u[0].row(299) == calibrate(reference.row(299), rewards.row(299))).all());
  CHECK(v[0][4'999] == calibrate(reference, std::vector<int>{prompt[4'999]}, flat.tail(1))[0]);
  CHECK(y[0][99'999] == exponential{.t = -10}(many[99'999]));

  const matrix<S> now = matrix<S>::Random(P * M, T) - 2, before = matrix<S>::Random(P * M, T) - 2,
                  old = now + S(0.3) * matrix<S>::Random(P * M, T),
                  mask = (matrix<S>::Random(P * M, T) > S(-0.5)).template cast<S>();
  const token_batch<S> batch{
      .log_probabilities = now, .reference_log_probabilities = before, .mask = mask, .old_log_probabilities = old};
  const auto check = [&](const auto& step) {
    const auto out = with_threads([&] { return step(batch, rewards); });
    for (const auto& o : out) {
      CHECK(o.loss == out[0].loss);
      CHECK((o.gradient == out[0].gradient).all());
      CHECK(o.metrics.kl == out[0].metrics.kl);
      CHECK(o.metrics.ratio == out[0].metrics.ratio);
      CHECK(o.metrics.clip_ratio == out[0].metrics.clip_ratio);
      CHECK(o.metrics.advantage_std == out[0].metrics.advantage_std);
      CHECK(o.metrics.kl_max == out[0].metrics.kl_max);
      CHECK(o.metrics.kl_of_prompt_max == out[0].metrics.kl_of_prompt_max);
      CHECK(o.metrics.kl_max_prompt == out[0].metrics.kl_max_prompt);
    }
  };
  check(policy_gradient{k3_token_loss{.beta = 0.04}, group_standardized{}, ppo_clip{}, token_mean{}});
  check(policy_gradient{k1_reward_to_go{.beta = 0.04}, leave_one_out{}, ppo_clip{}});
}

TEST_CASE("An error reports the first position for any number of threads, and no exception leaves a parallel region") {
  const matrix<float> rewards = matrix<float>::Random(500, 8);
  matrix<float> reference = matrix<float>::Random(500, 100);
  reference(400, 7) = reference(123, 45) = std::numeric_limits<float>::quiet_NaN();
  for (const auto& text : with_threads([&] { return error_of([&] { calibrate(reference, rewards); }); }))
    CHECK(text == "calibrate: expected reference rewards that are numbers, got NaN at row 123, column 45");

  array<float> u = array<float>::Constant(200'000, 0.5f);
  u[150'000] = u[70'000] = 2;
  for (const auto& text : with_threads([&] { return error_of([&] { transform(u, exponential{.t = 10}); }); }))
    CHECK(text == "transform: expected calibrated rewards in [0, 1], got 2 at index 70000");

  matrix<float> now = matrix<float>::Constant(800, 200, -1);
  now(700, 1) = now(333, 199) = std::numeric_limits<float>::infinity();
  const policy_gradient step{no_kl{}, leave_one_out{}};
  for (const auto& text : with_threads([&] {
         return error_of([&] { step(token_batch<float>{.log_probabilities = now}, matrix<float>::Random(100, 8)); });
       }))
    CHECK(text == "policy_gradient: expected finite log_probabilities, got inf at row 333, column 199");
}

#if defined(_OPENMP) && __has_include(<sys/wait.h>)
// GCC's OpenMP waits for ever in a child process if its parent has used several threads.
TEST_CASE("A child process works with one thread, as documented") {
  const matrix<float> reference = matrix<float>::Random(4000, 256), rewards = matrix<float>::Random(4000, 16);
  omp_set_num_threads(3);
  const auto expected = calibrate(reference, rewards);
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    alarm(20);
    omp_set_num_threads(1);
    _exit((calibrate(reference, rewards) == expected).all() ? 0 : 1);
  }
  int status = -1;
  REQUIRE(waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
}
#endif
