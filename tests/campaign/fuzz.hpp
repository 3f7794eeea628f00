// SPDX-License-Identifier: MIT
#pragma once

// What the fuzzing targets share: bytes as numbers, and checks of error messages. A check that fails ends the program, so that
// libFuzzer reports the input.
#include <infalign/core.hpp>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <string_view>
#include <vector>

namespace fuzz {

inline void require(bool holds, const char* what, std::string_view text = {}) {
  if (holds) return;
  std::fprintf(stderr, "does not hold: %s\n%.*s\n", what, static_cast<int>(text.size()), text.data());
  std::abort();
}

/// True if the text is valid UTF-8. (Surrogates and overlong forms are not looked for.)
inline bool is_utf8(std::string_view text) {
  for (std::size_t i = 0; i < text.size();) {
    const auto byte = static_cast<unsigned char>(text[i++]);
    int more = byte < 0x80 ? 0 : byte >> 5 == 6 ? 1 : byte >> 4 == 14 ? 2 : byte >> 3 == 30 ? 3 : -1;
    if (more < 0) return false;
    for (; more > 0; --more)
      if (i == text.size() || (static_cast<unsigned char>(text[i++]) & 0xC0) != 0x80) return false;
  }
  return true;
}

/// An error's text is one line, short, and valid UTF-8.
inline void require_message(const std::exception& error) {
  const std::string_view text = error.what();
  require(!text.empty() && text.size() < 1000, "a message is short", text.substr(0, 300));
  require(text.find('\n') == text.npos, "a message is one line", text);
  require(is_utf8(text), "a message is valid UTF-8");
}

/// Bytes of the fuzzer, as numbers. 0 after their end.
class bytes {
 public:
  bytes(const std::uint8_t* data, std::size_t size) : data_(data), size_(size) {}

  std::uint8_t next() { return at_ < size_ ? data_[at_++] : std::uint8_t{0}; }
  /// A number from 0 to most.
  int up_to(int most) { return next() % (most + 1); }
  bool flag() { return next() % 2 == 1; }
  template <class T>
  T choice(const std::vector<T>& of) {
    return of[next() % of.size()];
  }

 private:
  const std::uint8_t* data_;
  std::size_t size_, at_ = 0;
};

}  // namespace fuzz
