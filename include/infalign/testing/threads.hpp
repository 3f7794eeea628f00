// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/detail/check_batches.hpp>

#include <thread>
#include <vector>

#include <infalign/detail/begin.hpp>

/// \file
/// The check of a function that several threads call at once.
namespace INFALIGN_NAMESPACE::checks {

/// Several threads that call the function at once get the results that one thread gets, bit for bit. A race that does not
/// show in the results is found by a thread sanitizer alone.
///
/// Cost: `options.cases` × `threads` × 10 calls. Errors: an exception inside a thread ends the program.
template <std::same_as<options> Options = options>
report same_in_threads(const pipeline& f, int threads = 4, const Options& o = {}) {
  return check_batches(detail::concat("same_in_threads(", threads, ")"), f, o, [&](const response_batch& b) -> fault {
    const auto alone = f(b);
    std::vector<array<double>> results(static_cast<std::size_t>(threads), alone);
    std::vector<std::thread> running;
    for (auto& mine : results)
      running.emplace_back([&] {
        for (int i = 0; i < 10 && (mine == alone || (mine.isNaN() && alone.isNaN())).all(); ++i) mine = f(b);
      });
    for (auto& t : running) t.join();
    for (const auto& mine : results) {
      auto found = detail::compare_results("Calling the function in several threads", alone, "result then", mine, 0);
      if (!found.sentence.empty()) return found;
    }
    return {};
  });
}

}  // namespace INFALIGN_NAMESPACE::checks

#include <infalign/detail/end.hpp>
