// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
// Byte-pair encoding, in the file format of llama2.c (github.com/karpathy/llama2.c).
#pragma once

#include "binary.hpp"
#include "tokens.hpp"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <stdexcept>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

namespace trainer {

/// Pieces of text with scores. Tokens 0 to 2 are not text, and tokens 3 to 258 are single bytes.
class tokenizer {
 public:
  /// Reads a file: the length of the longest piece; then for each piece its score, its length and its text.
  /// Throws if there are not exactly so many pieces as the model has tokens.
  tokenizer(const std::filesystem::path& file, std::int64_t vocabulary) {
    binary_reader in(file);
    in.number<std::int32_t>();
    for (std::int64_t id = 0; id < vocabulary; ++id) {
      const auto score = in.number<float>();
      add(in.text(in.number<std::int32_t>()), score);
    }
    in.finish();
    if (pieces_.size() < first_piece) throw std::invalid_argument(file.string() + ": expected at least 259 tokens");
  }

  /// Learns at most `vocabulary` tokens from texts: again and again it makes one token of the most frequent pair.
  tokenizer(const std::vector<std::string>& texts, std::size_t vocabulary) {
    for (const auto* const name : {"<unk>", "\n<s>\n", "\n</s>\n"}) add(name, 0);
    for (int byte = 0; byte < 256; ++byte) {
      char name[8];
      std::snprintf(name, sizeof name, "<0x%02X>", static_cast<unsigned>(byte));
      add(name, 0);
    }
    std::map<std::vector<std::string>, int> words;  // as pieces, and how often; pieces do not cross words
    for (const auto& text : texts)
      for (const auto& word : words_of(text)) {
        std::vector<std::string> letters;
        for (const char c : word) letters.emplace_back(1, c);
        for (const auto& letter : letters)
          if (ids_.count(letter) == 0) add(letter, -1e6f);
        ++words[letters];
      }
    while (pieces_.size() < vocabulary) {
      std::map<std::pair<std::string, std::string>, int> pairs;
      for (const auto& [word, count] : words)
        for (std::size_t i = 0; i + 1 < word.size(); ++i) pairs[{word[i], word[i + 1]}] += count;
      if (pairs.empty()) break;
      const auto best = std::max_element(pairs.begin(), pairs.end(), [](const auto& a, const auto& b) {
                          return a.second < b.second;
                        })->first;
      std::map<std::vector<std::string>, int> merged;
      for (const auto& [word, count] : words) {
        std::vector<std::string> pieces;
        for (std::size_t i = 0; i < word.size(); ++i)
          if (i + 1 < word.size() && word[i] == best.first && word[i + 1] == best.second)
            pieces.push_back(word[i] + word[i + 1]), ++i;
          else
            pieces.push_back(word[i]);
        merged[pieces] += count;
      }
      words = std::move(merged);
      add(best.first + best.second, -static_cast<float>(pieces_.size()));
    }
  }

  void write(const std::filesystem::path& file) const {
    binary_writer out(file);
    std::size_t longest = 0;
    for (const auto& piece : pieces_) longest = std::max(longest, piece.size());
    out.number(static_cast<std::int32_t>(longest));
    for (std::size_t id = 0; id < pieces_.size(); ++id) {
      out.number(scores_[id]);
      out.number(static_cast<std::int32_t>(pieces_[id].size()));
      out.text(pieces_[id]);
    }
  }

  std::int64_t size() const { return static_cast<std::int64_t>(pieces_.size()); }
  const std::string& piece(std::int64_t id) const { return pieces_.at(static_cast<std::size_t>(id)); }

  /// The tokens of a text, as if a space stood before it. Begins with characters, or with their bytes if a character is
  /// not a piece. Then merges, again and again, the pair that makes the piece with the highest score.
  std::vector<std::int64_t> encode(const std::string& text) const {
    std::vector<std::int64_t> ids;
    if (text.empty()) return ids;
    if (const auto space = ids_.find(" "); space != ids_.end()) ids.push_back(space->second);
    for (std::size_t i = 0, n = 1; i < text.size(); i += n) {
      for (n = 1; i + n < text.size() && (static_cast<unsigned char>(text[i + n]) & 0xC0) == 0x80;) ++n;
      if (const auto known = ids_.find(text.substr(i, n)); known != ids_.end())
        ids.push_back(known->second);
      else
        for (std::size_t b = 0; b < n; ++b) ids.push_back(3 + static_cast<unsigned char>(text[i + b]));
    }
    for (;;) {
      std::size_t at = 0;
      std::int64_t best = -1;
      for (std::size_t i = 0; i + 1 < ids.size(); ++i)
        if (const auto both = ids_.find(piece(ids[i]) + piece(ids[i + 1])); both != ids_.end())
          if (best < 0 || score(both->second) > score(best)) best = both->second, at = i;
      if (best < 0) return ids;
      ids[at] = best;
      ids.erase(ids.begin() + static_cast<std::ptrdiff_t>(at) + 1);
    }
  }

  /// The text of tokens. It begins with the space, if the first piece does.
  std::string decode(const std::int64_t* ids, std::int64_t count) const {
    std::string text;
    for (std::int64_t i = 0; i < count; ++i)
      if (ids[i] >= first_piece)
        text += piece(ids[i]);
      else if (ids[i] >= 3)
        text += static_cast<char>(ids[i] - 3);
    return text;
  }

 private:
  static constexpr std::int64_t first_piece = 259;

  /// The words of a text, each with a space before it.
  static std::vector<std::string> words_of(const std::string& text) {
    std::vector<std::string> words{" "};
    for (const char c : text)
      if (c == ' ')
        words.emplace_back(" ");
      else
        words.back() += c;
    return words;
  }

  void add(std::string text, float score) {
    ids_.emplace(text, size());
    pieces_.push_back(std::move(text));
    scores_.push_back(score);
  }

  float score(std::int64_t id) const { return scores_[static_cast<std::size_t>(id)]; }

  std::vector<std::string> pieces_;
  std::vector<float> scores_;
  std::unordered_map<std::string, std::int64_t> ids_;
};

}  // namespace trainer
