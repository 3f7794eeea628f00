// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/core.hpp>

#include <concepts>
#include <cstddef>
#include <deque>
#include <functional>
#include <iterator>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include <infalign/detail/begin.hpp>

/// \file
/// Prompts known by a string: a prompt's text, its hash, or a file's name and line.
namespace INFALIGN_NAMESPACE {

namespace detail {

/// A range of strings: a `std::vector<std::string>`, a list of `std::string_view`.
template <class R>
concept string_range = requires(const R& range) {
  { *std::begin(range) } -> std::convertible_to<std::string_view>;
  { std::begin(range) != std::end(range) } -> std::convertible_to<bool>;
};

/// A string in quotes and on one line, for error messages. The middle of a long string is left out, because prompts
/// often begin alike, but seldom end alike. A UTF-8 character is never split.
inline std::string quoted(std::string_view key) {
  constexpr std::size_t head = 50, tail = 30;
  const auto continues = [&](std::size_t i) { return (static_cast<unsigned char>(key[i]) & 0xC0) == 0x80; };
  std::string result(key);
  if (key.size() > head + tail + 3) {
    std::size_t first = head, last = key.size() - tail;
    while (first > head - 4 && continues(first)) --first;
    while (last < key.size() - tail + 4 && continues(last)) ++last;
    result = concat(std::string(key.substr(0, first)), "…", std::string(key.substr(last)));
  }
  for (char& c : result)
    if (static_cast<unsigned char>(c) < 0x20) c = ' ';
  return concat("\"", result, "\"");
}

}  // namespace detail

/// Maps strings to prompt indices: the k-th key has index k and belongs to row k of the reference.
///
///     const prompt_keys keys{names};                         // names[k] names row k of the reference
///     const auto u = shape(keys(prompts), rewards);          // a flat batch; prompts[i] is a name
///
/// Copies are independent. Const calls may run in several threads at once.
class prompt_keys {
 public:
  /// No keys.
  prompt_keys() = default;

  /// Adds keys in this order. Errors: if two keys are equal.
  template <detail::string_range R>
  explicit prompt_keys(const R& keys) {
    for (const auto& key : keys) add(std::string(std::string_view(key)));
  }

  /// The number of keys.
  Eigen::Index size() const { return detail::size_of(keys_); }

  /// True if the key has an index.
  bool contains(std::string_view key) const { return find(key) >= 0; }

  /// The index of a key. Errors: if the key is unknown.
  Eigen::Index at(std::string_view key) const {
    return known(key, [] { return std::string(); });
  }

  /// The index of each key of a batch, in the batch's order. Errors: if a key is unknown.
  template <detail::string_range R>
  std::vector<Eigen::Index> operator()(const R& keys) const {
    std::vector<Eigen::Index> result;
    for (const auto& key : keys)
      result.push_back(known(key, [&] { return detail::position(detail::size_of(result)); }));
    return result;
  }

  /// The key of index i. The returned reference is valid as long as this object exists. Errors: if there is none.
  const std::string& key(Eigen::Index i) const INFALIGN_LIFETIMEBOUND {
    if (i < 0 || i >= size()) detail::fail("prompt_keys", detail::concat("an index below ", size()), detail::concat(i));
    return keys_[static_cast<std::size_t>(i)];
  }

  /// Adds a key and returns its index, which is the number of keys before. If it throws, nothing is added.
  ///
  /// Errors: if the key already exists.
  Eigen::Index add(std::string key) {
    const auto next = size();
    if (const auto i = find(key); i >= 0)
      detail::fail("prompt_keys", "keys that differ",
                   detail::concat(detail::quoted(key), detail::position(i), " and again", detail::position(next)));
    struct entry {  // is taken back if there is no memory for the key
      hash_map& map;
      hash_map::iterator place;
      bool kept = false;
      ~entry() {
        if (!kept) map.erase(place);
      }
    } added{by_hash_, by_hash_.emplace(std::hash<std::string_view>{}(key), next)};
    keys_.push_back(std::move(key));
    added.kept = true;
    return next;
  }

 private:
  using hash_map = std::unordered_multimap<std::size_t, Eigen::Index>;

  /// The index of a key, or −1.
  Eigen::Index find(std::string_view key) const {
    const auto [first, last] = by_hash_.equal_range(std::hash<std::string_view>{}(key));
    for (auto it = first; it != last; ++it)
      if (keys_[static_cast<std::size_t>(it->second)] == key) return it->second;
    return -1;
  }

  /// The index of a key; throws with its `position()` in the batch if the key is unknown.
  template <class Position>
  Eigen::Index known(std::string_view key, const Position& position) const {
    const auto i = find(key);
    if (i < 0)
      detail::fail("prompt_keys", detail::concat("one of ", size(), " keys"), detail::quoted(key) + position());
    return i;
  }

  // The map stores indices, not views, so that default copies and moves are right. A deque never moves its strings.
  std::deque<std::string> keys_;
  hash_map by_hash_;
};

}  // namespace INFALIGN_NAMESPACE

#include <infalign/detail/end.hpp>
