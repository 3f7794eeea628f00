// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
// The layout of text as tokens, for the program that prepares it and the one that trains on it.
#pragma once

#include <cstdint>
#include <string_view>

namespace trainer {

/// Tokens that are not text.
inline constexpr std::int64_t padding = 0, end_of_text = 1, unknown = 2;

/// A prompt is cut to its last 32 tokens and padded on the left; a response is cut to its first 16 tokens and padded on
/// the right. So every response begins at the same position. Its end is a separate token, if that is among the 16.
inline constexpr std::int64_t prompt_length = 32, response_length = 16;

/// A hash that is equal on all systems (FNV-1a).
inline std::uint64_t hash_of(std::string_view text) {
  std::uint64_t hash = 14695981039346656037u;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211u;
  return hash;
}

}  // namespace trainer
