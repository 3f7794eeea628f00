// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/core.hpp>

#include <zlib.h>
#include <cstddef>
#include <filesystem>
#include <istream>
#include <memory>
#include <stdexcept>
#include <streambuf>
#include <string>
#include <vector>

#include <infalign/detail/begin.hpp>

#if !defined(__cpp_exceptions) && !defined(_CPPUNWIND)
#error "infalign/adapters/gzip.hpp needs exceptions, with which streams report errors"
#endif

/// \file
/// Streams of files that gzip has compressed. Needs zlib; infalign.hpp does not include it.
namespace INFALIGN_NAMESPACE {

namespace detail {

/// The text of a gzip file, piece by piece.
class gzip_buffer : public std::streambuf {
 public:
  explicit gzip_buffer(const std::filesystem::path& file) : name_(file.string()), file_(gzopen(name_.c_str(), "rb")) {
    if (!file_ || std::filesystem::is_directory(file)) reject("cannot be opened");
    read();
    if (gzdirect(file_.get())) reject("expected a gzip file");
  }

 protected:
  int_type underflow() override {
    if (gptr() == egptr()) read();
    return gptr() == egptr() ? traits_type::eof() : traits_type::to_int_type(*gptr());
  }

 private:
  struct closes {
    void operator()(gzFile file) const { gzclose(file); }
  };

  [[noreturn]] void reject(const char* why) const { throw std::runtime_error(name_ + ": " + why); }

  /// Reads the next piece.
  void read() {
    const int count = gzread(file_.get(), piece_.data(), static_cast<unsigned>(piece_.size()));
    int error = Z_OK;
    gzerror(file_.get(), &error);
    if (error == Z_BUF_ERROR) reject("ends too early");
    if (error == Z_DATA_ERROR) reject("is damaged");
    if (count < 0) reject("cannot be read");
    setg(piece_.data(), piece_.data(), piece_.data() + count);
  }

  std::string name_;
  std::unique_ptr<gzFile_s, closes> file_;
  std::vector<char> piece_ = std::vector<char>(std::size_t{1} << 16);
};

}  // namespace detail

/// The text of a file that gzip has compressed, as a stream.
///
///     gzip_istream in("rewards.jsonl.gz");
///     const auto log = read_jsonl<float>(in, "rewards.jsonl.gz");
///
/// A file may have several parts that were compressed one by one, as `cat a.gz b.gz` gives.
///
/// Errors: `std::runtime_error` "FILE: cannot be opened" or "FILE: expected a gzip file" from the constructor; from any
/// function that reads, "FILE: ends too early", "FILE: is damaged" or "FILE: cannot be read". The text before the error may
/// have been read.
class gzip_istream : public std::istream {
 public:
  /// Opens a file.
  explicit gzip_istream(const std::filesystem::path& file) : std::istream(nullptr), buffer_(file) {
    rdbuf(&buffer_);
    exceptions(std::ios::badbit);  // throws what the buffer throws
  }

 private:
  detail::gzip_buffer buffer_;
};

}  // namespace INFALIGN_NAMESPACE

#include <infalign/detail/end.hpp>
