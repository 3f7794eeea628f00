// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
// Rewards of texts: by a lexicon, or by any program.
#pragma once

#include "lexicon.hpp"

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <functional>
#include <stdexcept>
#include <string>
#include <vector>

namespace trainer {

/// Returns a reward for each response, of which the prompts are given too.
using text_scorer = std::function<std::vector<float>(const std::vector<std::string>& prompts,
                                                     const std::vector<std::string>& responses)>;

inline text_scorer score_by_lexicon(const std::filesystem::path& file) {
  return [words = lexicon(file)](const auto&, const auto& responses) {
    std::vector<float> rewards;
    for (const auto& text : responses) rewards.push_back(static_cast<float>(words.score(text)));
    return rewards;
  };
}

/// Runs a shell command for each batch. It reads lines of a prompt, a tab and a response, and writes a number for each;
/// "nan" means that a response has no reward. Tabs and line breaks within a text become spaces. `folder` is for the lines.
inline text_scorer score_by_command(const std::string& command, const std::filesystem::path& folder) {
  return [command, folder](const auto& prompts, const auto& responses) {
    // Runs at the same time have different files.
    const auto lines = folder / ("lines." + std::to_string(getpid()) + ".txt");
    {
      std::ofstream out(lines);
      const auto write = [&out](std::string text) {
        for (char& c : text)
          if (c == '\t' || c == '\n' || c == '\r') c = ' ';
        out << text;
      };
      for (std::size_t i = 0; i < responses.size(); ++i) {
        write(prompts[i]);
        out << '\t';
        write(responses[i]);
        out << '\n';
      }
    }
    const auto pipe = popen(("( " + command + "\n) < '" + lines.string() + "'").c_str(), "r");
    if (pipe == nullptr) throw std::runtime_error("cannot run: " + command);
    std::vector<float> rewards;
    for (float reward = 0; std::fscanf(pipe, "%f", &reward) == 1;) rewards.push_back(reward);
    const int status = pclose(pipe);
    std::filesystem::remove(lines);
    if (status != 0 || rewards.size() != responses.size())
      throw std::runtime_error("expected " + std::to_string(responses.size()) + " numbers and status 0, got " +
                               std::to_string(rewards.size()) + " and " + std::to_string(status) +
                               ", from: " + command);
    return rewards;
  };
}

}  // namespace trainer
