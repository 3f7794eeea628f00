// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#include "museum.hpp"

#include <infalign/step/advantage.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <vector>

using namespace infalign;
using checks::response_batch;
using Eigen::Index;

namespace {

/// An advantage estimator on batches: f(rewards of one prompt) for each prompt.
template <class F>
auto by_prompt(const F& f) {
  return [f](const response_batch& b) {
    array<double> result(b.size());
    for (const auto& [prompt, group] : b.members()) result(group) = f(array<double>(b["reward"](group)));
    return result;
  };
}

array<double> minus_mean(const array<double>& r) {
  return r - r.mean();
}

array<double> z_score(const array<double>& r) {
  if (r.size() < 2 || (r == r[0]).all()) return array<double>::Zero(r.size());
  const array<double> d = r - r.mean();
  return d / (std::sqrt(d.square().sum() / static_cast<double>(r.size() - 1)) + 1e-4);
}

/// Rounded to the 8 significant bits of a bfloat16.
double bf16(double x) {
  if (x == 0) return 0;
  const double unit = std::exp2(std::floor(std::log2(std::abs(x))) - 7);
  return std::round(x / unit) * unit;
}

/// Unscored responses are NaN, and stay out of the group.
array<double> z_score_of_scored(const array<double>& r) {
  std::vector<Index> scored;
  for (Index i = 0; i < r.size(); ++i)
    if (!std::isnan(r[i])) scored.push_back(i);
  array<double> result = array<double>::Constant(r.size(), NAN);
  result(scored) = z_score(r(scored));
  return result;
}

}  // namespace

std::vector<exhibit> reward_bugs(const checks::options& o) {
  std::vector<exhibit> exhibits;
  // The same check of both.
  const auto add = [&](std::string name, std::string source, const checks::pipeline& bug, const checks::pipeline& right,
                       const auto& check) {
    exhibits.push_back({std::move(name), std::move(source), check(bug), check(right)});
  };

  const std::vector<checks::input> with_agreement{{}, {.name = "agreement", .low = 0, .high = 1}};
  add("a term of the reward has the wrong sign", "NVlabs/alpamayo-recipes#29",
      {[](const response_batch& b) -> array<double> { return b["reward"] - 0.5 * b["agreement"]; }, with_agreement},
      {[](const response_batch& b) -> array<double> { return b["reward"] + 0.5 * b["agreement"]; }, with_agreement},
      [&](const auto& f) { return checks::increasing(f, "agreement", true, o); });

  const std::vector<checks::input> correct_and_length{{.name = "correct", .low = 0, .high = 1, .step = 1},
                                                      {.name = "length", .low = 1, .high = 512, .step = 1}};
  const auto of_length = [](const response_batch& b) -> array<double> {
    array<double> result(b.size());
    for (const auto& [prompt, group] : b.members()) {
      const array<double> x = b["length"](group);
      result(group) = 0.5 - (x - x.minCoeff()) / std::max(1.0, x.maxCoeff() - x.minCoeff());
    }
    return result;
  };
  add("a long right answer gets less than a short wrong one", "huggingface/open-r1#360",
      {[=](const response_batch& b) -> array<double> {
         const auto x = of_length(b);
         return (b["correct"] == 1).select(x, x.min(0.0));  // right: 0.5 to -0.5; wrong: 0 to -0.5
       },
       correct_and_length},
      {[=](const response_batch& b) -> array<double> { return b["correct"] + 0.5 * of_length(b); }, correct_and_length},
      [&](const auto& f) { return checks::dominates(f, "correct", o); });

  add("an unscored response counts as a reward of 0, and moves the mean", "huggingface/trl#5775",
      {by_prompt([](const array<double>& r) { return z_score(r.isNaN().select(0.0, r)); })},
      {by_prompt(z_score_of_scored)}, [&](const auto& f) { return checks::ignores_unscored(f, "reward", o); });

  add("one unscored response makes its whole group NaN", "modelscope/ms-swift#8123",
      {by_prompt([](const array<double>& r) {
        const array<double> d = r - r.mean();
        return array<double>(d / (std::sqrt(d.square().mean()) + 1e-4));
      })},
      {by_prompt(z_score_of_scored)}, [&](const auto& f) { return checks::ignores_unscored(f, "reward", o); });

  add("the standard deviation of a single response is 0/0", "alibaba/ROLL#475", {by_prompt([](const array<double>& r) {
        const array<double> d = r - r.mean();
        return array<double>(d / (std::sqrt(d.square().sum() / static_cast<double>(r.size() - 1)) + 1e-4));
      })},
      {by_prompt(z_score)}, [&](const auto& f) { return checks::finite(f, o); });

  // The right code is `z_score`: the standard deviation of the whole group is 0 only if all rewards are equal.
  add("the others' standard deviation is 0, and the advantage a million", "NVIDIA-NeMo/RL#1518",
      {by_prompt([](const array<double>& r) {
         array<double> a(r.size());
         for (Index i = 0; i < r.size(); ++i) {
           std::vector<Index> others;
           for (Index j = 0; j < r.size(); ++j)
             if (j != i) others.push_back(j);
           const array<double> rest = r(others), d = rest - rest.mean();
           a[i] = (r[i] - rest.mean()) / (std::sqrt(d.square().mean()) + 1e-6);
         }
         return a;
       }),
       {{}},
       false,
       2},
      {by_prompt(z_score), {{}}, false, 2}, [&](const auto& f) { return checks::in_range(f, -100, 100, o); });

  add("groups of unlike sizes are normalised as one", "THUDM/slime#1414", {[](const response_batch& b) {
        bool equal = true;
        for (const auto& [prompt, group] : b.members())
          equal = equal && std::ssize(group) == std::ssize(b.members()[0]);
        return equal ? by_prompt(z_score)(b) : z_score(b["reward"]);
      }},
      {by_prompt(z_score)}, [&](const auto& f) { return checks::independent_prompts(f, o); });

  add("completions come interleaved, and are grouped as if they came prompt by prompt", "StarsfieldAI/R1-V#67",
      {[](const response_batch& b) {
        array<double> result = b["reward"];
        for (Index i = 0; i + 1 < b.size(); i += 2) result.segment(i, 2) = minus_mean(b["reward"].segment(i, 2));
        return result;
      }},
      {by_prompt(minus_mean)}, [&](const auto& f) { return checks::invariant_to_order(f, o); });

  const std::vector<checks::input> with_length{{}, {.name = "length", .low = 1, .high = 64, .step = 1}};
  add("the batch is sorted by length, and the rewards are not", "verl-project/verl#2185",
      {[](const response_batch& b) {
         std::vector<Index> order(static_cast<std::size_t>(b.size()));
         std::iota(order.begin(), order.end(), Index{0});
         std::stable_sort(order.begin(), order.end(),
                          [&](Index i, Index j) { return b["length"][i] < b["length"][j]; });
         return array<double>(b["reward"](order));
       },
       with_length},
      {[](const response_batch& b) { return b["reward"]; }, with_length},
      [&](const auto& f) { return checks::independent_responses(f, o); });

  add("each response is a group of its own", "rllm-org/rllm#776",
      {[](const response_batch& b) {
         std::vector<int> unique(b.prompt.size());
         std::iota(unique.begin(), unique.end(), 0);
         return advantage(unique, b["reward"], no_baseline{});
       },
       {{}},
       false,
       2},
      {[](const response_batch& b) { return advantage(b.prompt, b["reward"], leave_one_out{}); }, {{}}, false, 2},
      [&](const auto& f) { return checks::zero_mean(f, o); });

  add("rewards are centred in bfloat16", "OpenRLHF/OpenRLHF#1334", {by_prompt([](const array<double>& r) {
        const double mean = bf16(r.mean());
        return array<double>(r.unaryExpr([&](double x) { return bf16(bf16(x) - mean); }));
      })},
      {by_prompt(minus_mean)}, [&](const auto& f) { return checks::zero_mean(f, o); });

  // Not an advantage but a calibration: the table's row of the wrong prompt.
  const auto ranks = [](int shift) -> checks::calibration_function {
    return [shift](const matrix<double>& reference, const std::vector<int>& prompt, const array<double>& rewards) {
      auto rows = prompt;
      for (int& p : rows) p = (p + shift) % static_cast<int>(reference.rows());
      return calibrate(reference, rows, rewards);
    };
  };
  exhibits.push_back({"responses are compared with another prompt's data", "allenai/open-instruct#1484",
                      checks::is_mid_rank(ranks(1), o), checks::is_mid_rank(ranks(0), o)});
  return exhibits;
}
