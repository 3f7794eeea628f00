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

/// The rows of a reference found by name: by the text of a prompt, its hash, a file's name and line.
namespace infalign {

namespace detail {

/// Anything with strings one after another: a `std::vector<std::string>`, a list of `std::string_view`.
template <class R>
concept string_range = requires(const R& range) {
  { *std::begin(range) } -> std::convertible_to<std::string_view>;
  { std::begin(range) != std::end(range) } -> std::convertible_to<bool>;
};

/// A string on one line, in quotes, without its middle where it is long: prompts begin alike more often than they end
/// alike. UTF-8 is not cut within a character.
inline std::string quoted(std::string_view key) {
  constexpr std::size_t head = 50, tail = 30;
  const auto inside = [&](std::size_t i) { return (static_cast<unsigned char>(key[i]) & 0xC0) == 0x80; };
  std::string result(key);
  if (key.size() > head + tail + 3) {
    std::size_t first = head, last = key.size() - tail;
    while (first > head - 4 && inside(first)) --first;
    while (last < key.size() - tail + 4 && inside(last)) ++last;
    result = text(std::string(key.substr(0, first)), "…", std::string(key.substr(last)));
  }
  for (char& c : result)
    if (static_cast<unsigned char>(c) < 0x20) c = ' ';
  return text("\"", result, "\"");
}

}  // namespace detail

/// Dense indices for prompts that are known by a string: the k-th key has index k, as row k of the reference.
///
///     const prompt_keys keys{names};                         // names[k] names row k of the reference
///     const auto u = shape(keys(prompts), rewards);          // a flat batch; prompts[i] is a name
///
/// A copy is on its own, and a moved one needs nothing of where it was. Const calls may run in many threads.
class prompt_keys {
 public:
  prompt_keys() = default;

  /// Throws where two keys are equal.
  template <detail::string_range R>
  explicit prompt_keys(const R& keys) {
    for (const auto& key : keys) add(std::string(std::string_view(key)));
  }

  Eigen::Index size() const { return std::ssize(keys_); }

  bool contains(std::string_view key) const { return find(key) >= 0; }

  /// The index of a key. Throws where there is no such key.
  Eigen::Index at(std::string_view key) const {
    return known(key, [] { return std::string(); });
  }

  /// The indices of a batch of keys, in their order, each as often as it occurs. Throws where there is no such key.
  template <detail::string_range R>
  std::vector<Eigen::Index> operator()(const R& keys) const {
    std::vector<Eigen::Index> result;
    for (const auto& key : keys) result.push_back(known(key, [&] { return detail::at(std::ssize(result)); }));
    return result;
  }

  /// The key of an index in [0, size()). The reference stays valid for as long as this object does.
  const std::string& key(Eigen::Index i) const {
    if (i < 0 || i >= size()) detail::fail("prompt_keys", detail::text("an index below ", size()), detail::text(i));
    return keys_[static_cast<std::size_t>(i)];
  }

  /// Adds a key and returns its index, size() before. Throws where the key is there already.
  Eigen::Index add(std::string key) {
    const auto next = size();
    if (const auto i = find(key); i >= 0)
      detail::fail("prompt_keys", "keys that differ",
                   detail::text(detail::quoted(key), detail::at(i), " and again", detail::at(next)));
    const auto hash = std::hash<std::string_view>{}(key);
    keys_.push_back(std::move(key));
    by_hash_.emplace(hash, next);
    return next;
  }

 private:
  /// The index of a key, or −1.
  Eigen::Index find(std::string_view key) const {
    const auto [first, last] = by_hash_.equal_range(std::hash<std::string_view>{}(key));
    for (auto it = first; it != last; ++it)
      if (keys_[static_cast<std::size_t>(it->second)] == key) return it->second;
    return -1;
  }

  template <class Place>
  Eigen::Index known(std::string_view key, const Place& place) const {
    const auto i = find(key);
    if (i < 0) detail::fail("prompt_keys", detail::text("one of ", size(), " keys"), detail::quoted(key) + place());
    return i;
  }

  // Indices, not views, so that copies and moves are right by themselves; a deque never moves its strings.
  std::deque<std::string> keys_;
  std::unordered_multimap<std::size_t, Eigen::Index> by_hash_;
};

}  // namespace infalign
