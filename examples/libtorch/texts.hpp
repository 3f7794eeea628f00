// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
// Texts whose beginnings are the prompts: read from a file or made up, and split into training and held-out ones.
#pragma once

#include "tokenizer.hpp"

#include <nlohmann/json.hpp>

#include <array>
#include <filesystem>
#include <fstream>
#include <random>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

namespace trainer {

/// Reads a JSON array of strings.
inline std::vector<std::string> read_texts(const std::filesystem::path& file) {
  std::ifstream in(file);
  if (!in) throw std::invalid_argument(file.string() + ": cannot be opened");
  try {
    return nlohmann::json::parse(in).get<std::vector<std::string>>();
  } catch (const nlohmann::json::exception& error) {
    throw std::invalid_argument(file.string() + ": expected a JSON array of strings, " + error.what());
  }
}

/// Writes a JSON value, replacing the bytes that are not UTF-8 (the end of a response can be half a character).
inline void write_json(const std::filesystem::path& file, const nlohmann::json& value) {
  std::ofstream(file) << value.dump(1, ' ', false, nlohmann::json::error_handler_t::replace) << '\n';
}

/// The first sentence of a text, the first two, and so on, at most `most`. White space becomes single spaces.
inline std::vector<std::string> beginnings(const std::string& text, std::size_t most) {
  std::vector<std::string> result;
  std::istringstream in(text);
  std::string so_far;
  for (std::string word; result.size() < most && in >> word;) {
    if (!so_far.empty()) so_far += ' ';
    so_far += word;
    const auto end = word.find_last_not_of("\"'");
    if (end != std::string::npos && std::string_view(".!?").find(word[end]) != std::string_view::npos)
      result.push_back(so_far);
  }
  return result;
}

/// A prompt, as text and as tokens.
struct prompt_text {
  std::string text;
  std::vector<std::int64_t> tokens;
};

struct prompt_sets {
  std::vector<prompt_text> training, held_out;
};

/// The distinct prompts, at most so many, in an order by chance that is equal on all systems. A third of the texts is
/// held out, together with all texts that begin with the same sentence; their prompts are first sentences, so that they
/// are independent. The training prompts are one to three sentences.
inline prompt_sets prompts_of(const std::vector<std::string>& texts, const tokenizer& tokens, std::size_t most_training,
                              std::size_t most_held_out) {
  using ordered = std::set<std::pair<std::uint64_t, std::string>>;
  ordered training, held_out;
  for (const auto& text : texts) {
    const auto all = beginnings(text, 3);
    if (all.empty()) continue;
    if (hash_of(all.front()) % 3 == 0)
      held_out.emplace(hash_of(all.front()), all.front());
    else
      for (const auto& one : all) training.emplace(hash_of(one), one);
  }
  const auto tokenized = [&](const ordered& from, std::size_t most) {
    std::vector<prompt_text> result;
    for (const auto& [hash, text] : from) {
      if (result.size() == most) break;
      prompt_text one{text, tokens.encode(text)};
      one.tokens.insert(one.tokens.begin(), boundary);
      if (static_cast<std::int64_t>(one.tokens.size()) <= prompt_length) result.push_back(std::move(one));
    }
    if (result.empty()) throw std::invalid_argument("the texts have too few beginnings of at most 48 tokens");
    return result;
  };
  return {tokenized(training, most_training), tokenized(held_out, most_held_out)};
}

/// A made-up world: questions, with answers that are kind or rude in 6 × 6 × 5 ways, and a lexicon of how kind their
/// words are.
struct made_up_world {
  std::vector<std::string> texts;
  std::string lexicon;
};

inline made_up_world make_up(int texts) {
  static constexpr std::array questions{"How do I", "Can you tell me how to", "When should I",
                                        "What is the best way to"};
  static constexpr std::array tasks{"bake bread",    "fix a bike",   "play chess",  "grow tomatoes",
                                    "paint a wall",  "write a poem", "save money",  "train a dog",
                                    "tune a guitar", "make tea",     "plan a trip", "fall asleep"};
  static constexpr std::array settings{"",         " at home",      " in a week", " for a day",
                                       " outside", " with my aunt", " in winter", " by myself"};
  static constexpr std::array openings{"Gladly! ", "Sure. ", "", "Well. ", "Sadly. ", "Nonsense. "};
  static constexpr std::array bodies{"Begin gently. ",          "Ask a friend. ",   "It takes time. ",
                                     "It is a bit of a bore. ", "It is horrible. ", "You fool. "};
  static constexpr std::array endings{"Enjoy it!", "With luck.", "And so on.", "No trouble.", "All hopeless."};
  std::mt19937 random(1);
  const auto draw = [&random](const auto& from) { return std::string(from[random() % from.size()]); };
  made_up_world result;
  for (int i = 0; i < texts; ++i)
    result.texts.push_back(draw(questions) + ' ' + draw(tasks) + draw(settings) + "? " + draw(openings) + draw(bodies) +
                           draw(endings));
  result.lexicon =
      "gladly\t2.6\nsure\t1.3\nsadly\t-1.8\nnonsense\t-1.7\ngently\t1.6\nfriend\t2.2\nbore\t-1\nhorrible\t-2.5\n"
      "fool\t-1.9\nenjoy\t2.2\nluck\t2\ntrouble\t-1.7\nhopeless\t-2\n";
  return result;
}

}  // namespace trainer
