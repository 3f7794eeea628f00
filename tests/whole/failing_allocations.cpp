// SPDX-License-Identifier: MIT
// Each allocation of each function fails in turn: std::bad_alloc comes out and nothing else, nothing leaks, objects are as
// before, and the next call has the right result.
#include <infalign/adapters/jsonl.hpp>
#include <infalign/infalign.hpp>
#include <infalign/plan.hpp>
#if __has_include(<sys/mman.h>)
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include <infalign/adapters/npy.hpp>
#endif

#include "arrays.hpp"
#include "counted_memory.hpp"
#include "files.hpp"

#include <csignal>
#include <sstream>
#include <string>
#include <vector>

using namespace infalign;

namespace {

/// The number of allocations of f that were made to fail: each of the first `each`, and then fewer. After each, unchanged()
/// must be true.
template <class F, class Unchanged>
int failures_of(const char* what, const F& f, const Unchanged& unchanged, int each = 200) {
  int failures = 0;
  for (int n = 0; n < 10'000'000; n += 1 + n / each) {
    const long live = memory::live;
    bool threw = false, other = false;
    memory::fails_after = n;
    try {
      f();
    } catch (const std::bad_alloc&) {
      threw = true;
    } catch (...) {
      other = true;
    }
    const bool failed = memory::fails_after < 0;
    const long after = memory::live;
    memory::fails_after = -1;
    if (!threw && !other) {
      // All allocations succeeded, or the one that failed is not needed (a workspace that cannot grow).
      if (!failed) return failures;
      continue;
    }
    ++failures;
    INFO(what << ", allocation " << n);
    CHECK(threw);
    CHECK(after == live);
    CHECK(unchanged());
  }
  FAIL(what << " never succeeds");
  return -1;
}

/// f() has a result: after each failure a call gives it again.
template <class F>
void check(const char* what, const F& f) {
  const auto expected = f();
  const int failures = failures_of(
      what, [&] { f(); }, [&] { return same(f(), expected); });
  INFO(what);
  CHECK(failures > 0);
}

const matrix<double> reference = (10 * matrix<double>::Random(5, 12)).round(),
                     rewards = (10 * matrix<double>::Random(5, 3)).round();
const std::vector<int> prompt{4, 4, 0, 1, 2, 3, 0, 1, 2, 3, 4, 4, 0, 0, 1};
const array<double> flat = (10 * array<double>::Random(15)).round();
const matrix<double> now = matrix<double>::Random(15, 70) - 2, before = now + 0.1 * matrix<double>::Random(15, 70);
const token_batch<double> batch{
    .log_probabilities = now, .reference_log_probabilities = before, .old_log_probabilities = before};

array<double> numbers(const mean_estimate& m) {
  return array<double>{{m.mean, m.standard_error, m.low, m.high}};
}

}  // namespace

TEST_CASE("Calibration, transforms and advantages survive failing allocations") {
  const calibration_prior<double> prior{reference};
  check("calibrate", [] { return calibrate(reference, rewards); });
  check("calibrate, flat", [] { return calibrate(reference, prompt, flat); });
  check("calibrate, by columns", [] { return calibrate(Eigen::ArrayXXd(reference), rewards); });
  check("calibrate with a prior", [&] { return calibrate(reference, prior, rewards); });
  check("calibration", [] { return calibration{reference}(rewards); });
  check("calibration with a prior", [&] { return calibration{reference, prior}(prompt, flat); });
  check("leave-one-out", [] { return calibrate_leave_one_out(prompt, flat, mid_rank{}, unscored::propagate); });
  check("leave-one-out with a prior", [&] { return calibrate_leave_one_out(prior, prompt, flat); });
  check("tabulated_rank", [] { return calibrate(reference, rewards, tabulated_rank{unbiased_power{2}, 12}); });
  check("ragged", [] {
    return calibrate(ragged(std::vector<std::vector<double>>{{1, 2}, {3}, {4, 5, 6}, {7}, {8}}), rewards);
  });
  check("prior", [] {
    const calibration_prior<double> learnt{reference};
    return array<double>{{learnt.weight(), learnt.rms_error(8),
                          learnt.cdf(learnt.fit(Eigen::Map<const array<double>>(reference.data(), 12)), 1.0)}};
  });
  check("transform", [] { return transform(reference.abs() / 20, normalized_exponential{2}); });
  check("shaping", [] {
    return (calibration{reference} | tabulated{array<double>{{0, 1}}, array<double>{{2, 3}}})(rewards);
  });
  check("advantage", [] { return advantage(prompt, flat, max_at_n{2}); });
  check("ordered credit", [] {
    return advantage(prompt, flat, order_weighted{order_weights(soft_best_of{2, 3}), set_baseline::group_mean});
  });
  check("several rewards", [] {
    const joint_calibration shape{rank_minimum{}, reference, reference};
    return (shape | identity{})(prompt, flat, flat);
  });
  check("optimal_values", [] { return optimal_values(reference, at_beta{1}); });
  check("partition_rank", [] { return calibrate(reference, rewards, partition_rank{power{2}, 0.3}); });
  matrix<double> result(5, 3);
  workspace space;
  check("leave-one-out into", [&]() -> const matrix<double>& {
    workspace fresh;
    calibrate_leave_one_out_into(result, fresh, rewards);
    calibrate_leave_one_out_into(result, space, rewards);
    return result;
  });
}

TEST_CASE("A prior that cannot grow is as before") {
  calibration_prior<double> prior{reference};
  const double weight = prior.weight(), error = prior.rms_error(4);
  failures_of(
      "add",
      [&] {
        calibration_prior<double> copy = prior;
        copy.add(prompt, flat);
      },
      [&] { return prior.weight() == weight && prior.rms_error(4) == error; });
  failures_of(
      "add in place",
      [&] {
        calibration_prior<double> copy = prior;
        prior.add(prompt, flat);
        prior = std::move(copy);
      },
      [&] { return prior.weight() == weight && prior.rms_error(4) == error; });
}

TEST_CASE("prompt_keys keeps no half of a key") {
  const std::string long_name(100, 'x');
  prompt_keys keys{std::vector<std::string>{"a", "b"}};
  for (int i = 0; i < 40; ++i) {  // some of them grow the tables
    const auto size = keys.size();
    const std::string name = long_name + std::to_string(i);
    failures_of(
        "add", [&] { keys.add(name); },
        [&] { return keys.size() == size && !keys.contains(name) && keys.at("b") == 1; });
    CHECK(keys.at(name) == size);
  }
  check("lookup", [&] { return array<double>{{double(keys(std::vector<std::string>{"b", long_name + "3"})[1])}}; });
}

TEST_CASE("Measures and theory survive failing allocations") {
  check("win_rates", [] { return win_rates(rewards, reference, best_of{2}); });
  check("win_rate", [] { return numbers(win_rate(rewards, reference, best_of{2})); });
  check("win_rate_curve", [] { return numbers(win_rate_curve<best_of>(rewards, reference)[2]); });
  check("shown_values", [] { return shown_values(rewards, rewards, best_of{2}); });
  check("shown_value_curve", [] { return numbers(shown_value_curve<best_of>(rewards, rewards)[2]); });
  check("finite_policies", [] { return finite_policies(reference, at_kl{0.5}).means(reference); });
  check("log_partition", [] {
    return array<double>{{log_partition(power{3}, at_beta{0.3}), log_partition(power{3}, at_beta{0.3}, at_count{4})}};
  });
  check("mixed_use", [] {
    return ascent_transform(rewards.abs() / 20,
                            mixed_use{user_share{0.5, best_of{2}}, user_share{0.5, plain_sampling{}}})
        .value;
  });
  check("drift", [] { return array<double>{{drift(reference, rewards).p_value}}; });
  check("kl_divergence", [] { return numbers(kl_divergence(now, before)); });
  check("exact_win_rate", [] {
    return array<double>{{exact_win_rate(array<double>{{1, 2, 3}}, array<double>{{0.2, 0.3, 0.5}},
                                         array<double>{{0.5, 0.3, 0.2}}, best_of{2})}};
  });
  check("aligned_policy", [] {
    return array<double>{{aligned_policy{exponential{.t = 5}, at_kl{0.5}}.win_rate(best_of{4})}};
  });
  check("optimal_transform", [] { return optimal_transform(best_of{4}, at_beta{0.2}).transform.value; });
  check("ascent_transform", [] { return array<double>(ascent_transform(rewards.abs() / 20, best_of{4}).value); });
}

TEST_CASE("A plan survives failing allocations") {
  const matrix<double> log{{0, 1, 1, 3, 4}, {5, 2, -1, 0, 0}, {1, 2, 3, 4, 9}, {0, 2, 4, 6, 1}};
  double beta = 0;
  const int failures = failures_of(
      "plan_rewards", [&] { beta = plan_rewards(log, best_of{2}, at_kl{0.2}).beta; }, [] { return true; }, 2);
  CHECK(failures > 10);
  CHECK(beta == plan_rewards(log, best_of{2}, at_kl{0.2}).beta);
}

TEST_CASE("A step survives failing allocations, and its workspace can be used again") {
  const policy_gradient step{k1_in_reward{.beta = 0.1}, group_standardized{}, ppo_clip{}, token_mean{}};
  check("step", [&] { return step(batch, rewards).gradient; });
  check("step, flat", [&] { return step(batch, prompt, flat).gradient; });
  check("policy_advantages", [] {
    return policy_advantages{k1_reward_to_go{.beta = 0.1}, leave_one_out{}}(batch, prompt, flat);
  });
  check("policy_loss", [] { return policy_loss{k3_token_loss{.beta = 0.1}, ppo_clip{}}(batch, flat).gradient; });
  workspace space;
  step_result<double> out;
  const auto expected = step(batch, prompt, flat).gradient;
  for (int round = 0; round < 3; ++round) {
    failures_of(
        "step into",
        [&] {
          workspace fresh;
          step_result<double> result;
          step.into(result, fresh, batch, prompt, flat);
          step.into(result, fresh, batch, prompt, flat);
        },
        [] { return true; });
    step.into(out, space, batch, prompt, flat);
    CHECK(same(out.gradient, expected));
  }
}

#if __has_include(<sys/mman.h>)
TEST_CASE("Files are whole and old ones unchanged if memory ends while they are written or opened") {
  const temporary_folder folder;
  const auto file = folder / "table.npy";
  write_npy(file, reference);
  const npy_table<double> old(file);
  failures_of(
      "write_npy", [&] { write_npy(file, rewards); },
      [&] {
        return folder.files().size() == 1 &&
               same(calibrate(npy_table<double>(file), rewards), calibrate(reference, rewards));
      });
  CHECK(npy_table<double>(file).row(0).size() == 3);
  npy_table<double> growing(file);
  for (int i = 1; i < 5; ++i)
    failures_of(
        "append", [&] { growing.append(file); }, [&] { return growing.rows() == 5 * i; });
  CHECK(growing.rows() == 25);
}

// nlohmann-json allocates in functions that must not throw, which ends the program. So each failure has a process of its own.
TEST_CASE("A log is read rightly, or there is an error, or the program ends, if memory ends") {
  const std::string log = R"({"prompt": "a name that is too long for a small string", "rewards": [1, NaN, -Infinity]}
{"prompt": [{"role": "user", "content": "a question"}], "rewards": [0.5, 2, 1e3]}
{"prompt": "a name that is too long for a small string", "reward": 7}
)";
  const auto read = [&log] {
    std::istringstream in(log);
    return read_jsonl<double>(in, "log", unscored::propagate);
  };
  const auto whole = read();
  enum outcome { right, out_of_memory, unreadable, wrong, ended, none_failed };
  int counts[5] = {}, n = 0;
  for (; n < 100'000; ++n) {
    const auto child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
      const rlimit no_core{0, 0};
      ::setrlimit(RLIMIT_CORE, &no_core);
      std::signal(SIGABRT, SIG_DFL);
      std::set_terminate([] { ::_exit(ended); });
      std::istringstream in(log);
      memory::fails_after = n;
      int result = wrong;
      try {
        const auto again = read_jsonl<double>(in, "log", unscored::propagate);
        const bool all = memory::fails_after >= 0;
        memory::fails_after = -1;
        if (again.prompts == whole.prompts && again.rewards.rows() == whole.rewards.rows() &&
            same(again.rewards.row(0), whole.rewards.row(0)) && same(again.rewards.row(1), whole.rewards.row(1)))
          result = all ? none_failed : right;
      } catch (const std::bad_alloc&) {
        result = out_of_memory;
      } catch (const std::runtime_error& error) {
        memory::fails_after = -1;
        if (std::string(error.what()).find("cannot be read") != std::string::npos) result = unreadable;
      } catch (...) {
      }
      ::_exit(result);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    INFO("allocation " << n);
    REQUIRE(WIFEXITED(status));
    if (WEXITSTATUS(status) == none_failed) break;
    REQUIRE(WEXITSTATUS(status) < 5);
    REQUIRE(WEXITSTATUS(status) != wrong);
    ++counts[WEXITSTATUS(status)];
  }
  CHECK(n > 30);
  CHECK(counts[out_of_memory] > counts[ended]);
}
#endif
