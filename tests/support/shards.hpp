// SPDX-License-Identifier: MIT
#pragma once

// Shards of a batch that wait for each other at each call of their reduction, as processes do.
#include <infalign/step/step_result.hpp>

#include "catch.hpp"

#include <cstddef>
#include <vector>

/// Thrown by the reduction of a shard that has to wait for the others.
struct shard_waits {};

/// Runs f(s, reduce) for s = 0 … shards − 1, and returns the operations of the reductions. In place of threads that wait
/// for each other, all shards run again as soon as the result of one more call is known. Fails if the shards call the
/// reduction with other lengths or operations, or if some wait and others have ended.
template <class F>
std::vector<infalign::reduce_op> run_shards(std::size_t shards, const F& f) {
  using infalign::array, infalign::reduce_op;
  std::vector<array<double>> known;
  std::vector<reduce_op> ops;
  while (true) {
    array<double> next;
    std::size_t waiting = 0;
    for (std::size_t s = 0; s < shards; ++s) {
      std::size_t call = 0;
      const auto reduce = [&](Eigen::Ref<array<double>> values, reduce_op op) {
        if (call < known.size()) {
          REQUIRE(op == ops[call]);
          REQUIRE(values.size() == known[call].size());
          values = known[call++];
          return;
        }
        if (waiting++ == 0) {
          ops.push_back(op);
          next = values;
        } else {
          REQUIRE(op == ops[call]);
          REQUIRE(values.size() == next.size());
          next = op == reduce_op::sum ? array<double>(next + values) : array<double>(next.max(values));
        }
        throw shard_waits{};
      };
      try {
        f(s, reduce);
        REQUIRE(call == known.size());
      } catch (const shard_waits&) {
      }
    }
    REQUIRE((waiting == 0 || waiting == shards));
    if (waiting == 0) return ops;
    known.push_back(next);
  }
}
