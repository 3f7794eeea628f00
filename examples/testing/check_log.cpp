// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#include <infalign/adapters/jsonl.hpp>
#include <infalign/testing/log.hpp>

#include <exception>
#include <iostream>
#include <stdexcept>
#include <string>
#include <vector>

// Checks a log of rewards: check_log FILE.jsonl [RAW SHAPED]
//
// Each line has a prompt, and under the keys RAW and SHAPED (by default "raw" and "shaped") a reward before and after shaping,
// or equally long lists of them. Ends with status 1 if the shaped rewards of a prompt are not in the order of its raw ones, or if
// unscored responses got numbers. Ties that shaping makes or breaks are printed, and are no failure.
int main(int argc, char** argv) {
  using namespace infalign;
  if (argc != 2 && argc != 4) {
    std::cerr << "usage: check_log FILE.jsonl [RAW SHAPED]\n";
    return 2;
  }
  try {
    const std::string file = argv[1], raw_key = argc == 4 ? argv[2] : "raw",
                      shaped_key = argc == 4 ? argv[3] : "shaped";
    const auto raw = read_jsonl(file, unscored::propagate, raw_key),
               shaped = read_jsonl(file, unscored::propagate, shaped_key);
    std::vector<int> prompt;
    std::vector<double> x, y;
    for (Eigen::Index p = 0; p < raw.rewards.rows(); ++p) {
      const auto of_raw = raw.rewards.row(p), of_shaped = shaped.rewards.row(p);
      if (of_raw.size() != of_shaped.size())
        throw std::runtime_error(file + ": prompt " + std::to_string(p) + " has " + std::to_string(of_raw.size()) +
                                 " rewards under \"" + raw_key + "\" and " + std::to_string(of_shaped.size()) +
                                 " under \"" + shaped_key + "\"");
      for (Eigen::Index k = 0; k < of_raw.size(); ++k) {
        prompt.push_back(static_cast<int>(p));
        x.push_back(of_raw[k]);
        y.push_back(of_shaped[k]);
      }
    }
    const Eigen::Map<const array<double>> before(x.data(), std::ssize(x)), after(y.data(), std::ssize(y));
    const auto order = checks::log_keeps_order(prompt, before, after),
               scored = checks::log_keeps_unscored(prompt, before, after);
    std::cout << order << checks::log_keeps_distinct(prompt, before, after)
              << checks::log_keeps_ties(prompt, before, after) << scored;
    if (!order) {
      const auto p = static_cast<std::size_t>(order.counterexample.columns[0][0]);
      std::cout << "prompt " << p << " is " << raw.prompts[p].substr(0, 200) << "\n";
    }
    return order && scored ? 0 : 1;
  } catch (const std::exception& error) {
    std::cerr << error.what() << "\n";
    return 2;
  }
}
