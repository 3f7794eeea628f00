// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
// Human comparisons of dialogues, read from a file or made up, and split into training and held-out ones.
#pragma once

#include "tokens.hpp"

#include <zlib.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <random>
#include <set>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace trainer {

inline constexpr std::string_view human = "\n\nHuman:", assistant = "\n\nAssistant:";

/// A prompt, which ends where the assistant speaks next, and one response.
struct turn {
  std::string prompt, response;
};

/// A prompt with the response that a person preferred, and the other response.
struct comparison {
  std::string prompt, chosen, rejected;
};

/// One side of the split of a corpus: all turns of the assistant in the dialogues, and the comparisons of its last
/// responses.
struct dialogues {
  std::vector<turn> turns;
  std::vector<comparison> comparisons;
};

struct corpus {
  dialogues training, held_out;
};

/// All turns of the assistant in a dialogue, in order.
inline std::vector<turn> turns_of(const std::string& dialogue) {
  std::vector<turn> turns;
  for (auto at = dialogue.find(assistant); at != std::string::npos; at = dialogue.find(assistant, at + 1)) {
    const auto begin = at + assistant.size(), end = std::min(dialogue.find(human, begin), dialogue.size());
    turns.push_back({dialogue.substr(0, begin), dialogue.substr(begin, end - begin)});
  }
  return turns;
}

/// Adds a comparison of two dialogues if they differ in the last response only. One dialogue in five is held out,
/// together with all dialogues that begin in the same way.
inline void add_pair(corpus& all, const std::string& chosen, const std::string& rejected) {
  const auto good = turns_of(chosen), bad = turns_of(rejected);
  if (good.empty() || bad.empty() || good.back().prompt != bad.back().prompt) return;
  auto& side = hash_of(good.front().prompt) % 5 == 0 ? all.held_out : all.training;
  side.comparisons.push_back({good.back().prompt, good.back().response, bad.back().response});
  side.turns.insert(side.turns.end(), good.begin(), good.end());
  side.turns.push_back(bad.back());
}

/// Reads lines {"chosen": dialogue, "rejected": dialogue}, plain or compressed by gzip. The turns of a dialogue begin
/// with "\n\nHuman:" and "\n\nAssistant:". Throws if the file cannot be read or a line is malformed.
inline corpus read_pairs(const std::string& file) {
  const auto stream = gzopen(file.c_str(), "rb");
  if (stream == nullptr) throw std::invalid_argument(file + ": cannot be opened");
  std::string text;
  std::array<char, 1 << 16> buffer;
  int count = 0;
  while ((count = gzread(stream, buffer.data(), static_cast<unsigned>(buffer.size()))) > 0)
    text.append(buffer.data(), static_cast<std::size_t>(count));
  gzclose(stream);
  if (count < 0) throw std::invalid_argument(file + ": cannot be read");

  corpus result;
  int line = 0;
  for (std::size_t begin = 0, end = 0; begin < text.size(); begin = end + 1) {
    end = std::min(text.find('\n', begin), text.size());
    ++line;
    try {
      const auto pair = nlohmann::json::parse(text.substr(begin, end - begin));
      add_pair(result, pair.at("chosen").get<std::string>(), pair.at("rejected").get<std::string>());
    } catch (const nlohmann::json::exception& error) {
      throw std::invalid_argument(file + ":" + std::to_string(line) +
                                  R"(: expected {"chosen": text, "rejected": text}, )" + error.what());
    }
  }
  return result;
}

/// Makes up a corpus: an assistant that is kind or rude, in 6 x 6 x 5 ways. People mostly choose the kinder of two
/// responses: P(chosen) = sigmoid(difference in worth).
inline corpus made_up_pairs(int pairs) {
  static constexpr std::array questions{"How do I", "Can you tell me how to", "I want to", "What is the best way to"};
  static constexpr std::array tasks{"bake bread",    "fix a bike",   "learn chess", "grow tomatoes",
                                    "paint a wall",  "write a poem", "save money",  "train a dog",
                                    "tune a guitar", "make tea",     "plan a trip", "sleep well"};
  static constexpr std::array settings{"",         " at home",       " in a week", " for free",
                                       " outside", " with a friend", " in winter", " by myself"};
  struct part {
    const char* text;
    double worth;
  };
  static constexpr std::array openings{part{" Gladly!", 1.5}, part{" Sure.", 1},       part{"", 0},
                                       part{" Well.", -0.2},  part{" Not again.", -1}, part{" Go away.", -3}};
  static constexpr std::array bodies{part{" Begin slowly.", 1},  part{" Ask a friend.", 0.6},
                                     part{" It takes time.", 0}, part{" I do not know.", -0.4},
                                     part{" Why bother?", -1.2}, part{" You never will.", -2.5}};
  static constexpr std::array endings{part{" Take care!", 1}, part{" Good luck!", 0.7}, part{"", 0},
                                      part{" Or do not.", -0.6}, part{" Fool.", -2.5}};
  std::mt19937 random(1);
  const auto draw = [&random](const auto& from) { return from[random() % from.size()]; };
  corpus result;
  for (int i = 0; i < pairs; ++i) {
    const std::string question = std::string(draw(questions)) + " " + draw(tasks) + draw(settings);
    const std::string prompt = std::string(human) + " " + question + "?" + std::string(assistant);
    std::array<std::pair<double, std::string>, 2> responses;
    for (auto& [worth, text] : responses) {
      const auto opening = draw(openings), body = draw(bodies), ending = draw(endings);
      text = std::string(opening.text) + body.text + ending.text;
      worth = opening.worth + body.worth + ending.worth;
    }
    const double first = 1 / (1 + std::exp(responses[1].first - responses[0].first));
    if (static_cast<double>(random()) * 0x1p-32 > first) std::swap(responses[0], responses[1]);
    add_pair(result, prompt + responses[0].second, prompt + responses[1].second);
  }
  return result;
}

/// The texts without duplicates.
inline std::vector<std::string> distinct(const std::vector<std::string>& texts) {
  const std::set<std::string> sorted(texts.begin(), texts.end());
  return {sorted.begin(), sorted.end()};
}

}  // namespace trainer
