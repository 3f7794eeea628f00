// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
// The layout of text as tokens.
#pragma once

#include <cstdint>
#include <string_view>

namespace trainer {

/// Tokens that are not text. `boundary` stands before and after each text.
inline constexpr std::int64_t padding = 0, boundary = 1;

/// A prompt has at most 48 tokens and is padded on the left; a response is cut to its first 24 tokens and padded on the
/// right. So every response begins at the same position.
inline constexpr std::int64_t prompt_length = 48, response_length = 24;

/// A hash that is equal on all systems (FNV-1a).
inline std::uint64_t hash_of(std::string_view text) {
  std::uint64_t hash = 14695981039346656037u;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211u;
  return hash;
}

}  // namespace trainer
