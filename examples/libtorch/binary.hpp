// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
// Numbers and text in binary files, little-endian. Every error names the file.
#pragma once

#include <bit>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>

namespace trainer {

static_assert(std::endian::native == std::endian::little);

class binary_reader {
 public:
  explicit binary_reader(std::filesystem::path file) : file_(std::move(file)), in_(file_, std::ios::binary) {
    if (!in_) throw std::invalid_argument(file_.string() + ": cannot be opened");
  }

  template <class T>
  T number() {
    T value;
    read(&value, sizeof value);
    return value;
  }

  std::string text(std::int32_t length) {
    if (length < 0 || length > 1024) throw std::invalid_argument(file_.string() + ": a piece of a wrong length");
    std::string value(static_cast<std::size_t>(length), '\0');
    read(value.data(), value.size());
    return value;
  }

  void numbers(float* values, std::int64_t count) { read(values, static_cast<std::size_t>(count) * sizeof *values); }

  /// Throws unless the file ends here.
  void finish() {
    if (in_.peek() != std::ifstream::traits_type::eof())
      throw std::invalid_argument(file_.string() + ": longer than expected");
  }

 private:
  void read(void* to, std::size_t bytes) {
    if (!in_.read(static_cast<char*>(to), static_cast<std::streamsize>(bytes)))
      throw std::invalid_argument(file_.string() + ": shorter than expected");
  }

  std::filesystem::path file_;
  std::ifstream in_;
};

class binary_writer {
 public:
  explicit binary_writer(const std::filesystem::path& file) : out_(file, std::ios::binary) {
    out_.exceptions(std::ios::failbit | std::ios::badbit);
  }

  template <class T>
  void number(T value) {
    out_.write(reinterpret_cast<const char*>(&value), sizeof value);
  }

  void text(const std::string& value) { out_.write(value.data(), static_cast<std::streamsize>(value.size())); }

  void numbers(const float* values, std::int64_t count) {
    out_.write(reinterpret_cast<const char*>(values),
               static_cast<std::streamsize>(static_cast<std::size_t>(count) * sizeof *values));
  }

 private:
  std::ofstream out_;
};

}  // namespace trainer
