// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/calibration/reference.hpp>

#include <cstddef>
#include <filesystem>
#include <fstream>
#include <istream>
#include <limits>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include <infalign/detail/begin.hpp>

#if !defined(__cpp_exceptions) && !defined(_CPPUNWIND)
#error "infalign/adapters/jsonl.hpp needs exceptions, with which nlohmann-json reports errors"
#endif

/// \file
/// Reference rewards from a file with lines {"prompt": …, "rewards": […]} or {"prompt": …, "reward": …}. Needs
/// nlohmann-json 3; infalign.hpp does not include it.
namespace INFALIGN_NAMESPACE {

/// The content of a file: row k has the rewards of the responses to prompts[k]. Prompts are in the order of their first
/// lines. Lines with one prompt are one row; a line without a prompt is a row of its own.
template <real_scalar S>
struct jsonl_rewards {
  /// The prompt of each row; empty if the line has none. A string is stored as it is. Any other value, such as a list
  /// of chat messages, is stored as nlohmann's `dump()` writes it: JSON without spaces and with sorted keys.
  std::vector<std::string> prompts;
  /// The rewards of each row, at least one. An unscored one is NaN.
  ragged<array<S>, std::vector<Eigen::Index>> rewards;
};

static_assert(reference_table<decltype(jsonl_rewards<float>::rewards)> &&
              reference_table<decltype(jsonl_rewards<double>::rewards)>);

namespace detail {

/// The line with the three numbers that Python's json.dumps writes, although JSON has none of them, as strings.
inline std::string without_python_numbers(const std::string& line) {
  std::string result;
  bool quoted = false;
  for (std::size_t i = 0; i < line.size(); ++i) {
    const auto is = [&](const char* word) {
      return !quoted && line.compare(i, std::char_traits<char>::length(word), word) == 0;
    };
    if (is("NaN")) {
      result += "\"NaN\"", i += 2;
    } else if (is("-Infinity")) {
      result += "\"-Infinity\"", i += 8;
    } else if (is("Infinity")) {
      result += "\"Infinity\"", i += 7;
    } else {
      if (line[i] == '"') quoted = !quoted;
      result += line[i];
      if (quoted && line[i] == '\\' && i + 1 < line.size()) result += line[++i];
    }
  }
  return result;
}

/// The beginning of a text, for an error message. Bytes that are not ASCII become question marks, so that it is valid in
/// every encoding.
inline std::string beginning(std::string text) {
  if (text.size() > 200) text = text.substr(0, 200) + "...";
  for (char& c : text)
    if (static_cast<unsigned char>(c) < 32 || static_cast<unsigned char>(c) > 126) c = '?';
  return text;
}

/// A reward as a line of JSON has it. `reject` throws its argument with the line's number.
template <real_scalar S, class Reject>
S read_reward(const nlohmann::json& value, const std::string& where, unscored on_unscored, const Reject& reject) {
  const auto* text = value.get_ptr<const std::string*>();  // comparing `value` itself allocates in a noexcept function
  const auto is = [text](const char* word) { return text && *text == word; };
  if ((value.is_null() || is("NaN")) && on_unscored == unscored::propagate) return nan<S>;
  if (is("Infinity")) return infinite<S>;
  if (is("-Infinity")) return -infinite<S>;
  const auto shown = [&] {
    return is("NaN") ? "NaN" : beginning(value.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace));
  };
  if (!value.is_number()) reject(concat("expected a number at ", where, ", got ", shown()));
  const S reward = static_cast<S>(value.template get<double>());
  if (!is_finite(reward))
    reject(concat("expected a number that a ", name_of<S>, " can hold at ", where, ", got ", shown()));
  return reward;
}

/// Appends the rewards and the prompt of one line to the rows.
template <real_scalar S, class Reject>
void read_jsonl_line(const std::string& line, const std::string& key, unscored on_unscored,
                     std::vector<std::vector<S>>& rows, std::vector<std::string>& prompts,
                     std::unordered_map<std::string, std::size_t>& row_of, const Reject& reject) {
  using json = nlohmann::json;
  const auto shallow = [&](int depth, json::parse_event_t, const json&) {
    if (depth > 1000) reject("expected at most 1000 lists and objects within each other");  // json::dump recurses
    return true;
  };
  const auto object = json::parse(without_python_numbers(line), shallow);
  // One reward is under the key "reward", or under a key that the caller has chosen.
  const bool chosen = key != "rewards" && object.is_object() && object.contains(key) && !object.at(key).is_array();
  const std::string one_key = chosen ? key : "reward";
  const bool one =
      chosen || (key == "rewards" && object.is_object() && object.contains("reward") && !object.contains("rewards"));
  if (!one && (!object.is_object() || !object.contains(key)))
    reject("expected an object with the key \"" + beginning(key) + "\"");
  std::vector<S> rewards;
  if (one) {
    rewards.push_back(read_reward<S>(object.at(one_key), beginning(one_key), on_unscored, reject));
    if (!object.contains("prompt")) reject("expected a \"prompt\" beside the one \"" + beginning(one_key) + "\"");
  } else {
    const auto& list = object.at(key);
    if (!list.is_array() || list.empty())
      reject("expected \"" + beginning(key) + "\" to be a list of at least one number");
    for (std::size_t k = 0; k < list.size(); ++k)
      rewards.push_back(read_reward<S>(list[k], concat(beginning(key), "[", k, "]"), on_unscored, reject));
  }
  const auto prompt = object.find("prompt");
  std::string name;
  if (prompt != object.end()) name = prompt->is_string() ? prompt->template get<std::string>() : prompt->dump();
  const auto known = prompt == object.end() ? row_of.end() : row_of.find(name);
  if (known != row_of.end()) {
    auto& row = rows[known->second];
    row.insert(row.end(), rewards.begin(), rewards.end());
    return;
  }
  if (prompt != object.end()) row_of.emplace(name, rows.size());
  rows.push_back(std::move(rewards));
  prompts.push_back(std::move(name));
}

}  // namespace detail

/// Reads a stream to its end. Blank lines, and other keys, are skipped.
///
///     const auto log = read_jsonl<float>("rewards.jsonl");
///     const calibration shape{log.rewards};
///     const prompt_keys keys{log.prompts};                                         // if each line has a prompt
///     const auto all = read_jsonl<float>("rewards.jsonl", unscored::propagate);    // null and NaN are unscored
///
/// `gzip_istream` of adapters/gzip.hpp is the stream of a compressed file.
///
/// NaN, Infinity and -Infinity, which Python's json.dumps writes, are read too.
///
/// name: the stream's name, for errors.
/// key: of the list of rewards, "rewards" by default, in whose place a line can have one "reward"; or another key, whose
/// value is a list or one reward.
/// NaN: an unscored reward, null or NaN, is an error, or with `unscored::propagate` a NaN.
/// Errors: `std::runtime_error`. "NAME:LINE: expected X" or "NAME:LINE: not JSON: …" if a line is not such an object or
/// a reward is not a number that S can hold; "NAME: …" if the stream cannot be read or has no rewards. If memory runs out
/// while a line is read, the stream reports "cannot be read"; while it is parsed, the program may end, because nlohmann-json
/// allocates in functions that must not throw.
template <real_scalar S = double>
jsonl_rewards<S> read_jsonl(std::istream& in, const std::string& name, unscored on_unscored = unscored::error,
                            const std::string& key = "rewards") {
  std::vector<std::vector<S>> rows;
  std::vector<std::string> prompts;
  std::unordered_map<std::string, std::size_t> row_of;
  std::string line;
  for (Eigen::Index number = 1; std::getline(in, line); ++number) {
    const auto reject = [&](const std::string& why) {
      throw std::runtime_error(detail::concat(name, ":", number, ": ", why));
    };
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    try {
      detail::read_jsonl_line(line, key, on_unscored, rows, prompts, row_of, reject);
    } catch (const nlohmann::json::exception& error) {
      reject("not JSON: " + detail::beginning(error.what()));
    }
  }
  if (in.bad()) throw std::runtime_error(name + ": cannot be read");
  if (prompts.empty()) throw std::runtime_error(name + ": no lines of rewards");
  return {std::move(prompts), ragged(rows)};
}

/// Reads a file. Errors: as above, with the file's name; and if the file cannot be opened.
template <real_scalar S = double>
jsonl_rewards<S> read_jsonl(const std::filesystem::path& file, unscored on_unscored = unscored::error,
                            const std::string& key = "rewards") {
  std::ifstream in(file);
  // Some standard libraries open a folder and read nothing.
  if (!in || std::filesystem::is_directory(file)) throw std::runtime_error(file.string() + ": cannot be opened");
  return read_jsonl<S>(in, file.string(), on_unscored, key);
}

}  // namespace INFALIGN_NAMESPACE

#include <infalign/detail/end.hpp>
