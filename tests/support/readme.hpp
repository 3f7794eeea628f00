// SPDX-License-Identifier: MIT
#pragma once

// What the README's fragments take as given.
#include <infalign/adapters/jsonl.hpp>
#include <infalign/adapters/npy.hpp>
#include <infalign/infalign.hpp>
#include <infalign/testing.hpp>

#include <algorithm>
#include <cmath>
#include <iostream>
#include <span>
#include <string>
#include <vector>

using namespace infalign;

namespace given {
extern const matrix<float> reference, rewards, now, before, mask, old, engine;
extern const matrix<float> wide, policy_rewards, other_rewards, other_reference, lengths, fresh_reference,
    log_probabilities, reference_log_probabilities;
extern const array<float> flat;
extern const std::vector<std::string> names;
extern const std::vector<int> prompt;
extern const std::vector<std::vector<float>> lists;
extern const float* const buffer;
extern const matrix<float> u;
extern const token_batch<float> batch, micro_batch;
extern const policy_gradient<k1_in_reward, leave_one_out> step;
extern const checks::pipeline penalised;
void* const MPI_IN_PLACE = nullptr;
constexpr int MPI_DOUBLE = 0, MPI_SUM = 0, MPI_MAX = 1, MPI_COMM_WORLD = 0;
void MPI_Allreduce(void* from, void* to, int count, int type, int operation, int communicator);
template <class... Values>
void use(const Values&...) {}
}  // namespace given
using namespace given;
