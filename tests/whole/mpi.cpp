// SPDX-License-Identifier: MIT
// The step of a batch that is spread over the processes of MPI. mpirun -np N mpi: exits with 0 if every process has what the whole batch has.
// mpirun -np N mpi fail: one process fails; every process prints its error and exits with 1.
#include <infalign/infalign.hpp>

#include "batches.hpp"

#include <mpi.h>

#include <cmath>
#include <cstdio>
#include <stdexcept>
#include <vector>

using namespace infalign;
using Eigen::Index;

namespace {

int rank_of_process() {
  int rank = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  return rank;
}
int processes() {
  int count = 0;
  MPI_Comm_size(MPI_COMM_WORLD, &count);
  return count;
}

void all_reduce(Eigen::Ref<array<double>> values, reduce_op op) {
  MPI_Allreduce(MPI_IN_PLACE, values.data(), static_cast<int>(values.size()), MPI_DOUBLE,
                op == reduce_op::sum ? MPI_SUM : MPI_MAX, MPI_COMM_WORLD);
}

bool correct = true;

/// Says what is wrong.
void expect(bool holds, const char* what, const char* step) {
  if (holds) return;
  correct = false;
  std::printf("rank %d of %d, %s: %s\n", rank_of_process(), processes(), step, what);
}

constexpr Index prompts = 13, responses = 3;

/// The first prompt of the shard of each rank, and the end of the last shard. The shard of rank 1 has no prompts if there are 4.
std::vector<Index> starts() {
  switch (processes()) {
    case 1:
      return {0, 13};
    case 2:
      return {0, 4, 13};
    case 4:
      return {0, 2, 2, 9, 13};
    default:
      throw std::invalid_argument("1, 2 or 4 processes are meant");
  }
}

/// Compares the step of this rank's shard with that of the whole batch, which every rank computes for itself. Gradients have equal
/// bits, but for an estimator that divides by a sum over all shards, of which the last digit depends on their order.
template <class Step>
void compare(const Step& step, const buffers<>& b, double tolerance, const char* name) {
  std::vector<int> labels(static_cast<std::size_t>(b.B));  // in no order
  for (Index i = 0; i < b.B; ++i)
    labels[static_cast<std::size_t>(i)] = static_cast<int>((i / responses * 7 + 5) % 101) - 20;
  const auto first_and_last = starts();
  const auto rank = static_cast<std::size_t>(rank_of_process());
  const Index first = first_and_last[rank] * responses, size = first_and_last[rank + 1] * responses - first;
  for (const bool flat : {false, true}) {
    const auto whole = flat ? step(b.off_policy(), labels, b.flat()) : step(b.off_policy(), b.rewards);
    const auto own =
        flat ? step(b.off_policy(first, size), std::vector<int>(labels.begin() + first, labels.begin() + first + size),
                    b.flat().segment(first, size), all_reduce)
             : step(b.off_policy(first, size), b.rewards.middleRows(first / responses, size / responses), all_reduce);
    array<double> loss{{own.loss}};
    all_reduce(loss, reduce_op::sum);
    expect(std::abs(loss[0] - whole.loss) <= 1e-13 * std::abs(whole.loss), "the losses do not add up", name);
    const matrix<double> rows = whole.gradient.middleRows(first, size);
    expect(own.gradient.rows() == size && ((own.gradient - rows).abs() <= tolerance * rows.abs()).all(),
           "the gradient is not that of the whole batch", name);
    auto expected = fields(whole.metrics), got = fields(own.metrics);
    const Index of_prompt = 17;  // the prompt with the largest KL: a row counts from the first of its shard
    expect(std::abs(expected[of_prompt] - double{whole.metrics.kl_max_prompt}) == 0, "the test is out of date", name);
    if (flat)
      expect(got[of_prompt] == expected[of_prompt], "another prompt has the largest KL", name);
    else
      got[of_prompt] = expected[of_prompt];
    for (Index k = 0; k < got.size(); ++k)
      expect(std::abs(got[k] - expected[k]) <= 1e-13 * std::max(1.0, std::abs(expected[k])), "a metric differs", name);
  }
}

/// Each combination of a KL term and an estimator, with some responses that could not be scored.
void compare_all() {
  buffers<> b(11, prompts, responses, 6);
  for (const Index i : {1, 20, 21, 22, 38}) b.rewards(i / responses, i % responses) = NaN;  // 21 to 23 is prompt 7
  const auto compare_kl = [&](const auto& kl, const auto& estimator, double tolerance, const char* name) {
    compare(policy_gradient{kl, estimator, ppo_clip{}, token_mean{}, unscored::propagate}, b, tolerance, name);
    compare(policy_gradient{kl, estimator, ppo_clip{}, {}, unscored::propagate}, b, tolerance, name);
  };
  compare_kl(k1_in_reward{0.3}, leave_one_out{}, 0, "k1_in_reward, leave_one_out");
  compare_kl(k1_in_reward{0.3}, batch_standardized{}, 1e-12, "k1_in_reward, batch_standardized");
  compare_kl(k3_token_loss{0.3}, leave_one_out{}, 0, "k3_token_loss, leave_one_out");
  compare_kl(k3_token_loss{0.3}, batch_standardized{}, 1e-12, "k3_token_loss, batch_standardized");
}

/// The last rank's batch has a log-probability that is not a number; the step of every rank throws.
void fail_in_one() {
  buffers<> b(11, prompts, responses, 6);
  b.reference(b.B - 1, 1) = NaN;
  const auto first_and_last = starts();
  const auto rank = static_cast<std::size_t>(rank_of_process());
  const Index first = first_and_last[rank], size = first_and_last[rank + 1] - first;
  policy_gradient{k3_token_loss{0.3}, batch_standardized{}}(b.on_policy(first * responses, size * responses),
                                                            b.rewards.middleRows(first, size), all_reduce);
}

}  // namespace

int main(int arguments, char** argument) {
  MPI_Init(&arguments, &argument);
  try {
    if (arguments > 1)
      fail_in_one();
    else
      compare_all();
  } catch (const std::exception& error) {
    std::printf("rank %d: %s\n", rank_of_process(), error.what());
    std::fflush(stdout);
    correct = false;
  }
  MPI_Finalize();
  return correct ? 0 : 1;
}
