// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
// How text is laid out as tokens, for the program that prepares it and the one that trains on it.
#pragma once

#include <cstdint>
#include <string_view>

namespace trainer {

/// Tokens that are no text.
inline constexpr std::int64_t padding = 0, end_of_text = 1, unknown = 2;

/// A prompt is its last 32 tokens, padded on the left, and a response its first 16, padded on the right: so every
/// response begins at the same place. Its end is a token of its own, where it is among the 16.
inline constexpr std::int64_t prompt_length = 32, response_length = 16;

/// A hash that is the same everywhere (FNV-1a).
inline std::uint64_t hash_of(std::string_view text) {
  std::uint64_t hash = 14695981039346656037u;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211u;
  return hash;
}

}  // namespace trainer
