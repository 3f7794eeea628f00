// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
// Sentiment of a text by a lexicon of words and a few rules: VADER (Hutto and Gilbert, "VADER: A parsimonious rule-based
// model for sentiment analysis of social media text", 2014).
#pragma once

#include <algorithm>
#include <array>
#include <cctype>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

namespace trainer {

class lexicon {
 public:
  /// Reads lines of a word, a tab, its valence (from -4 to 4) and, optionally, more columns, which are ignored.
  explicit lexicon(const std::filesystem::path& file) {
    std::ifstream in(file);
    if (!in) throw std::invalid_argument(file.string() + ": cannot be opened");
    int number = 0;
    for (std::string line; std::getline(in, line);) {
      ++number;
      if (line.empty()) continue;
      const auto tab = line.find('\t');
      std::istringstream rest(tab == std::string::npos ? "" : line.substr(tab + 1));
      double valence = 0;
      if (!(rest >> valence) || tab == 0)
        throw std::invalid_argument(file.string() + ":" + std::to_string(number) +
                                    ": expected a word, a tab, a number");
      valence_[line.substr(0, tab)] = valence;
    }
  }

  /// The compound sentiment, from -1 to 1: x/√(x² + 15), where x is the sum of the words' valences and of the emphasis
  /// by exclamation marks and question marks. 0 if no word is in the lexicon.
  double score(std::string_view text) const {
    const sentence s(text);
    std::vector<double> valences;
    for (std::size_t i = 0; i < s.words.size(); ++i) valences.push_back(of_word(s, i));
    // What follows "but" counts more than what precedes it.
    const auto but = std::find(s.lower.begin(), s.lower.end(), "but") - s.lower.begin();
    double sum = 0;
    for (std::size_t i = 0; i < valences.size(); ++i) {
      const auto at = static_cast<std::ptrdiff_t>(i), end = static_cast<std::ptrdiff_t>(s.lower.size());
      sum += but == end || at == but ? valences[i] : at < but ? 0.5 * valences[i] : 1.5 * valences[i];
    }
    const auto exclamations = std::min<std::ptrdiff_t>(std::count(text.begin(), text.end(), '!'), 4);
    const auto questions = std::count(text.begin(), text.end(), '?');
    const double emphasis =
        0.292 * static_cast<double>(exclamations) + (questions < 2   ? 0
                                                     : questions < 4 ? 0.18 * static_cast<double>(questions)
                                                                     : 0.96);
    if (sum != 0) sum += std::copysign(emphasis, sum);
    return sum / std::sqrt(sum * sum + 15);
  }

 private:
  static constexpr double boost = 0.293, capitals = 0.733, negation = -0.74;

  struct sentence {
    /// The words of a text without the punctuation around them, unless at most two characters would be left (an
    /// emoticon). Single characters are left out.
    explicit sentence(std::string_view text) {
      std::istringstream in{std::string(text)};
      for (std::string word; in >> word;) {
        if (word.size() < 2) continue;
        const auto first = std::find_if_not(word.begin(), word.end(), punctuation);
        const auto last = std::find_if_not(word.rbegin(), word.rend(), punctuation).base();
        if (last - first > 2) word = std::string(first, last);
        words.push_back(word);
        std::transform(word.begin(), word.end(), word.begin(),
                       [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
        lower.push_back(word);
      }
      const auto loud = std::count_if(words.begin(), words.end(), in_capitals);
      some_in_capitals = loud > 0 && loud < static_cast<std::ptrdiff_t>(words.size());
    }

    static bool punctuation(unsigned char c) { return std::ispunct(c) != 0; }

    static bool in_capitals(const std::string& word) {
      const auto has = [&word](auto kind) {
        return std::any_of(word.begin(), word.end(), [&](unsigned char c) { return kind(c) != 0; });
      };
      return has([](int c) { return std::isupper(c); }) && !has([](int c) { return std::islower(c); });
    }

    bool stressed(std::size_t i) const { return some_in_capitals && in_capitals(words[i]); }

    /// Words i, …, i + n − 1, if there are so many.
    std::string phrase(std::size_t i, std::size_t n) const {
      if (i + n > lower.size()) return {};
      std::string result = lower[i];
      for (std::size_t k = 1; k < n; ++k) result += ' ' + lower[i + k];
      return result;
    }

    std::vector<std::string> words, lower;
    bool some_in_capitals = false;
  };

  /// By how much a word or a phrase strengthens a positive word that follows it.
  static double booster(const std::string& word) {
    static const std::unordered_set<std::string> more{
        "absolutely", "amazingly",     "awfully",      "completely", "considerably",  "decidedly",  "deeply",
        "enormously", "entirely",      "especially",   "extremely",  "exceptionally", "fabulously", "fully",
        "greatly",    "hella",         "highly",       "hugely",     "incredibly",    "intensely",  "majorly",
        "more",       "most",          "particularly", "purely",     "quite",         "really",     "remarkably",
        "so",         "substantially", "thoroughly",   "totally",    "tremendously",  "uber",       "unbelievably",
        "unusually",  "utterly",       "very"};
    static const std::unordered_set<std::string> less{
        "almost",   "barely",   "hardly",  "just enough", "kind of",      "kinda",  "kindof",
        "kind-of",  "less",     "little",  "marginally",  "occasionally", "partly", "scarcely",
        "slightly", "somewhat", "sort of", "sorta",       "sortof",       "sort-of"};
    return more.count(word) > 0 ? boost : less.count(word) > 0 ? -boost : 0;
  }

  static bool negates(const std::string& word) {
    static const std::unordered_set<std::string> words{
        "aint",   "arent",   "cannot",  "cant",    "couldnt", "darent",  "didnt",    "doesnt", "dont",  "hadnt",
        "hasnt",  "havent",  "isnt",    "mightnt", "mustnt",  "neither", "neednt",   "never",  "none",  "nope",
        "nor",    "not",     "nothing", "nowhere", "oughtnt", "shant",   "shouldnt", "uhuh",   "uh-uh", "wasnt",
        "werent", "without", "wont",    "wouldnt", "rarely",  "seldom",  "despite"};
    return words.count(word) > 0 || word.find("n't") != std::string::npos;
  }

  bool known(const std::string& word) const { return valence_.count(word) > 0; }

  /// The valence of word i, changed by the three words before it.
  double of_word(const sentence& s, std::size_t i) const {
    const auto& word = s.lower[i];
    const auto entry = valence_.find(word);
    if (entry == valence_.end() || booster(word) != 0 || s.phrase(i, 2) == "kind of") return 0;
    double valence = entry->second;
    if (s.stressed(i)) valence += std::copysign(capitals, valence);
    static constexpr std::array by_distance{1.0, 0.95, 0.9};
    for (std::size_t k = 1; k <= 3 && k <= i; ++k) {
      const auto& before = s.lower[i - k];
      if (known(before)) continue;
      if (double change = booster(before); change != 0) {
        change = std::copysign(1.0, valence) * (change + (s.stressed(i - k) ? capitals : 0));
        valence += by_distance[k - 1] * change;
      }
      const auto emphatic = [&s](std::size_t j) { return s.lower[j] == "so" || s.lower[j] == "this"; };
      // "never so good" is praise. (The published program strengthens "so good" without "never" too.)
      const bool never = before == "never" && k > 1 && emphatic(i - k + 1);
      if (never || (k == 3 && emphatic(i - 1)))
        valence *= k == 2 ? 1.5 : 1.25;
      else if (negates(before))
        valence *= negation;
      if (k == 3) valence = with_idioms(s, i, valence);
    }
    const bool least = i > 0 && s.lower[i - 1] == "least" && !known("least");
    if (least && !(i > 1 && (s.lower[i - 2] == "at" || s.lower[i - 2] == "very"))) valence *= negation;
    return valence;
  }

  /// Phrases about word i that mean something else than their words.
  static double with_idioms(const sentence& s, std::size_t i, double valence) {
    static const std::unordered_map<std::string, double> idioms{{"the bomb", 3},         {"bad ass", 1.5},
                                                                {"yeah right", -2},      {"cut the mustard", 2},
                                                                {"kiss of death", -1.5}, {"hand to mouth", -2}};
    const auto of = [&](std::size_t first, std::size_t n) {
      const auto found = idioms.find(s.phrase(first, n));
      if (found != idioms.end()) valence = found->second;
      return found != idioms.end();
    };
    of(i - 1, 2) || of(i - 2, 3) || of(i - 2, 2) || of(i - 3, 3) || of(i - 3, 2);
    of(i, 2);
    of(i, 3);
    if (booster(s.phrase(i - 3, 2)) != 0 || booster(s.phrase(i - 2, 2)) != 0) valence -= boost;
    return valence;
  }

  std::unordered_map<std::string, double> valence_;
};

}  // namespace trainer
