// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
// Work that can be stopped at any step, and then continues to the same numbers.
#pragma once

#include "tokens.hpp"

#include <torch/torch.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <vector>

namespace trainer {

namespace fs = std::filesystem;

/// Set by Ctrl-C. The work in progress then saves its state and throws `interrupted`.
inline volatile std::sig_atomic_t stop_requested = 0;

struct interrupted : std::runtime_error {
  interrupted() : std::runtime_error("stopped; the same command goes on from here") {}
};

/// One line on the terminal (or in a log, every 30 seconds): the progress, and the time that the rest will take.
class progress {
 public:
  progress(std::string name, int64_t steps, int64_t done = 0) : name_(std::move(name)), steps_(steps), first_(done) {}

  void at(int64_t done, const std::string& state = "") {
    const auto now = clock::now();
    const bool last = done == steps_;
    if (!last && now - shown_ < (terminal() ? std::chrono::seconds(1) : std::chrono::seconds(30))) return;
    shown_ = now;
    const double seconds = std::chrono::duration<double>(now - start_).count();
    const double left =
        seconds / static_cast<double>(std::max<int64_t>(done - first_, 1)) * static_cast<double>(steps_ - done);
    std::fprintf(stderr, "%s%-28s %6lld/%lld  %4.0f s, %4.0f s left  %s%s", terminal() ? "\r\033[K" : "", name_.c_str(),
                 static_cast<long long>(done), static_cast<long long>(steps_), seconds, left, state.c_str(),
                 terminal() && !last ? "" : "\n");
  }

 private:
  using clock = std::chrono::steady_clock;
  static bool terminal() {
    static const bool is = isatty(STDERR_FILENO) != 0;
    return is;
  }
  std::string name_;
  int64_t steps_, first_;
  clock::time_point start_ = clock::now(), shown_ = start_;
};

/// The state of a stage: its model; a second model with the average of the weights of about the last 50 steps, or null;
/// numbers of its own; and how many steps are done.
struct state {
  torch::nn::Module& model;
  torch::nn::Module* average = nullptr;
  std::vector<double> numbers = {};
  int64_t step = 0;
};

/// Reads a state from a file written by `save`. Returns false if there is no such file.
inline bool load(const fs::path& file, state& s, torch::optim::Optimizer* optimizer = nullptr) {
  if (!fs::exists(file)) return false;
  torch::serialize::InputArchive archive, part, average;
  archive.load_from(file.string());
  archive.read("model", part);
  s.model.load(part);
  if (s.average != nullptr) {
    archive.read("average", average);
    s.average->load(average);
  }
  c10::IValue value;
  archive.read("step", value);
  s.step = value.toInt();
  archive.read("numbers", value);
  s.numbers = value.toDoubleVector();
  if (torch::serialize::InputArchive kept; optimizer != nullptr && archive.try_read("optimizer", kept))
    optimizer->load(kept);
  return true;
}

/// Writes another file and renames it, so that the file is complete or absent. The optimizer is saved while work is
/// left.
inline void save(const fs::path& file, const state& s, const torch::optim::Optimizer* optimizer) {
  torch::serialize::OutputArchive archive, part, average;
  s.model.save(part);
  archive.write("model", part);
  if (s.average != nullptr) {
    s.average->save(average);
    archive.write("average", average);
  }
  archive.write("step", c10::IValue(s.step));
  archive.write("numbers", c10::IValue(s.numbers));
  if (optimizer != nullptr) {
    torch::serialize::OutputArchive kept;
    optimizer->save(kept);
    archive.write("optimizer", kept);
  }
  const auto aside = file.string() + ".part";
  archive.save_to(aside);
  fs::rename(aside, file);
}

/// A stage of training: its name, which is also its seed; its file; its number of steps; the highest learning rate.
struct stage {
  std::string name;
  fs::path file;
  int64_t steps;
  double learning_rate;
};

/// Calls work(numbers) for each step that is not in the stage's file yet. `work` computes gradients and returns a text
/// on its progress. The random numbers of a step depend on the stage and the step only, so that a stop changes nothing.
/// Saves every two minutes, at the end, and when it is stopped.
template <class Work>
void train(const stage& stage, state& s, const Work& work) {
  torch::optim::Adam optimizer(s.model.parameters(), torch::optim::AdamOptions(stage.learning_rate).betas({0.9, 0.98}));
  load(stage.file, s, &optimizer);
  progress line(stage.name, stage.steps, s.step);
  auto saved = std::chrono::steady_clock::now();
  while (s.step < stage.steps) {
    const auto done = static_cast<double>(s.step);
    const double warm = std::min(1.0, (done + 1) / 20), left = 1 - done / static_cast<double>(stage.steps);
    optimizer.param_groups()[0].options().set_lr(stage.learning_rate * warm * left);
    torch::manual_seed(hash_of(stage.name) + 1'000'003 * static_cast<std::uint64_t>(s.step));
    optimizer.zero_grad();
    const std::string text = work(s.numbers);
    optimizer.step();
    if (s.average != nullptr) {
      const torch::NoGradGuard no_gradient;
      const auto from = s.model.parameters(), to = s.average->parameters();
      for (std::size_t i = 0; i < to.size(); ++i) to[i].lerp_(from[i], std::max(0.02, 9 / (10 + done)));
    }
    line.at(++s.step, text);
    const auto now = std::chrono::steady_clock::now();
    if (s.step == stage.steps || stop_requested || now - saved > std::chrono::minutes(2)) {
      save(stage.file, s, s.step == stage.steps ? nullptr : &optimizer);
      saved = now;
    }
    if (stop_requested) throw interrupted();
  }
}

}  // namespace trainer
