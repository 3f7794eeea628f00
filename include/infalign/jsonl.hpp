// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/reference.hpp>

#include <cstddef>
#include <filesystem>
#include <fstream>
#include <istream>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

/// Reference rewards from a log of lines {"prompt": …, "rewards": […]}. Needs nlohmann-json 3, which the rest of the
/// library does not: include it by its name.
namespace infalign {

/// What the lines hold, in their order: prompts[k] was answered by responses with the rewards in row k.
template <real_scalar S>
struct jsonl_rewards {
  /// A string as it is; any other value, such as a list of chat messages, as JSON without spaces and with sorted keys,
  /// which nlohmann's `dump()` writes; nothing where a line names no prompt.
  std::vector<std::string> prompts;
  /// A row for each prompt, of at least one number.
  ragged<array<S>, std::vector<Eigen::Index>> rewards;
};

static_assert(reference_table<decltype(jsonl_rewards<float>::rewards)>);
static_assert(reference_table<decltype(jsonl_rewards<double>::rewards)>);

namespace detail {

/// The rewards and the prompt of one line, appended. `refuse` throws with its place.
template <real_scalar S, class Refuse>
void read_jsonl_line(const std::string& line, std::vector<S>& rewards, std::vector<std::string>& prompts,
                     const Refuse& refuse) {
  using json = nlohmann::json;
  const auto shallow = [&](int depth, json::parse_event_t, const json&) {
    if (depth > 1000) refuse("expected at most 1000 lists and objects within each other");  // json::dump recurses
    return true;
  };
  const auto object = json::parse(line, shallow);
  if (!object.is_object() || !object.contains("rewards")) refuse("expected an object with the key \"rewards\"");
  const auto& list = object.at("rewards");
  if (!list.is_array() || list.empty()) refuse("expected \"rewards\" to be a list of at least one number");
  for (std::size_t k = 0; k < list.size(); ++k) {
    if (!list[k].is_number()) refuse(text("expected a number at rewards[", k, "], got ", list[k].dump()));
    const S reward = static_cast<S>(list[k].template get<double>());
    if (!is_finite(reward))
      refuse(text("expected a number that a ", name_of<S>, " can hold at rewards[", k, "], got ", list[k].dump()));
    rewards.push_back(reward);
  }
  const auto prompt = object.find("prompt");
  if (prompt == object.end())
    prompts.emplace_back();
  else
    prompts.push_back(prompt->is_string() ? prompt->template get<std::string>() : prompt->dump());
}

}  // namespace detail

/// Reads to the end of a stream. Blank lines are passed over, and so are keys other than "prompt" and "rewards".
///
///     const auto log = read_jsonl<float>("rewards.jsonl");
///     const calibration shape{log.rewards};
///     const prompt_keys keys{log.prompts};                   // where no prompt occurs twice
///
/// name: of the stream, for errors. Throws `std::runtime_error`, "NAME:LINE: expected X" or "NAME:LINE: not JSON: …",
/// where a line is no such object, or a reward is no number or more than S can hold; and "NAME: …" where the stream
/// cannot be read or has no such line.
template <real_scalar S = double>
jsonl_rewards<S> read_jsonl(std::istream& in, const std::string& name) {
  std::vector<S> rewards;
  std::vector<Eigen::Index> offsets{0};
  std::vector<std::string> prompts;
  std::string line;
  for (Eigen::Index number = 1; std::getline(in, line); ++number) {
    const auto refuse = [&](const std::string& why) {
      throw std::runtime_error(detail::text(name, ":", number, ": ", why));
    };
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    try {
      detail::read_jsonl_line(line, rewards, prompts, refuse);
    } catch (const nlohmann::json::exception& error) {
      refuse(std::string("not JSON: ") + error.what());
    }
    offsets.push_back(std::ssize(rewards));
  }
  if (in.bad()) throw std::runtime_error(name + ": cannot be read");
  if (prompts.empty()) throw std::runtime_error(name + ": no lines of rewards");
  array<S> values = Eigen::Map<const array<S>>(rewards.data(), std::ssize(rewards));
  return {std::move(prompts), {std::move(values), std::move(offsets)}};
}

/// Reads a file, which errors name as it is given. Throws too where it cannot be opened.
template <real_scalar S = double>
jsonl_rewards<S> read_jsonl(const std::filesystem::path& file) {
  std::ifstream in(file);
  if (!in) throw std::runtime_error(file.string() + ": cannot be opened");
  return read_jsonl<S>(in, file.string());
}

}  // namespace infalign
