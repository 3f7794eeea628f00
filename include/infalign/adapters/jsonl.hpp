// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/calibration/reference.hpp>

#include <cstddef>
#include <filesystem>
#include <fstream>
#include <istream>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

/// \file
/// Reference rewards from a file with lines {"prompt": …, "rewards": […]}. Needs nlohmann-json 3; infalign.hpp does not
/// include it.
namespace infalign {

/// The content of a file, in its order: row k has the rewards of the responses to prompts[k].
template <real_scalar S>
struct jsonl_rewards {
  /// The prompt of each line; empty if the line has none. A string is stored as it is. Any other value, such as a list
  /// of chat messages, is stored as nlohmann's `dump()` writes it: JSON without spaces and with sorted keys.
  std::vector<std::string> prompts;
  /// The rewards of each line, at least one.
  ragged<array<S>, std::vector<Eigen::Index>> rewards;
};

static_assert(reference_table<decltype(jsonl_rewards<float>::rewards)> &&
              reference_table<decltype(jsonl_rewards<double>::rewards)>);

namespace detail {

/// Appends the rewards and the prompt of one line. `reject` throws its argument with the line's number.
template <real_scalar S, class Reject>
void read_jsonl_line(const std::string& line, std::vector<S>& rewards, std::vector<std::string>& prompts,
                     const Reject& reject) {
  using json = nlohmann::json;
  const auto shallow = [&](int depth, json::parse_event_t, const json&) {
    if (depth > 1000) reject("expected at most 1000 lists and objects within each other");  // json::dump recurses
    return true;
  };
  const auto object = json::parse(line, shallow);
  if (!object.is_object() || !object.contains("rewards")) reject("expected an object with the key \"rewards\"");
  const auto& list = object.at("rewards");
  if (!list.is_array() || list.empty()) reject("expected \"rewards\" to be a list of at least one number");
  for (std::size_t k = 0; k < list.size(); ++k) {
    if (!list[k].is_number()) reject(concat("expected a number at rewards[", k, "], got ", list[k].dump()));
    const S reward = static_cast<S>(list[k].template get<double>());
    if (!is_finite(reward))
      reject(concat("expected a number that a ", name_of<S>, " can hold at rewards[", k, "], got ", list[k].dump()));
    rewards.push_back(reward);
  }
  const auto prompt = object.find("prompt");
  if (prompt == object.end())
    prompts.emplace_back();
  else
    prompts.push_back(prompt->is_string() ? prompt->template get<std::string>() : prompt->dump());
}

}  // namespace detail

/// Reads a stream to its end. Blank lines, and keys other than "prompt" and "rewards", are skipped.
///
///     const auto log = read_jsonl<float>("rewards.jsonl");
///     const calibration shape{log.rewards};
///     const prompt_keys keys{log.prompts};                   // if no prompt occurs twice
///
/// name: the stream's name, for errors.
/// Errors: `std::runtime_error`. "NAME:LINE: expected X" or "NAME:LINE: not JSON: …" if a line is not such an object or
/// a reward is not a number that S can hold; "NAME: …" if the stream cannot be read or has no rewards.
template <real_scalar S = double>
jsonl_rewards<S> read_jsonl(std::istream& in, const std::string& name) {
  std::vector<S> rewards;
  std::vector<Eigen::Index> offsets{0};
  std::vector<std::string> prompts;
  std::string line;
  for (Eigen::Index number = 1; std::getline(in, line); ++number) {
    const auto reject = [&](const std::string& why) {
      throw std::runtime_error(detail::concat(name, ":", number, ": ", why));
    };
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    try {
      detail::read_jsonl_line(line, rewards, prompts, reject);
    } catch (const nlohmann::json::exception& error) {
      reject(std::string("not JSON: ") + error.what());
    }
    offsets.push_back(std::ssize(rewards));
  }
  if (in.bad()) throw std::runtime_error(name + ": cannot be read");
  if (prompts.empty()) throw std::runtime_error(name + ": no lines of rewards");
  array<S> values = Eigen::Map<const array<S>>(rewards.data(), std::ssize(rewards));
  return {std::move(prompts), {std::move(values), std::move(offsets)}};
}

/// Reads a file. Errors: as above, with the file's name; and if the file cannot be opened.
template <real_scalar S = double>
jsonl_rewards<S> read_jsonl(const std::filesystem::path& file) {
  std::ifstream in(file);
  if (!in) throw std::runtime_error(file.string() + ": cannot be opened");
  return read_jsonl<S>(in, file.string());
}

}  // namespace infalign
