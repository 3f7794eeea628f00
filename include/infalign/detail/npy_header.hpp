// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/detail/mapped_file.hpp>

#include <algorithm>
#include <charconv>
#include <concepts>
#include <vector>

#include <infalign/detail/begin.hpp>

/// \file
/// What precedes the data of a `.npy` file: the magic bytes, the major and minor version, the length of the header
/// (2 bytes in version 1, else 4), and the header, a Python dict and a newline.
namespace INFALIGN_NAMESPACE::detail {

inline constexpr std::string_view npy_magic = "\x93NUMPY";

/// The name of a scalar type in a file.
template <class T>
inline constexpr const char* npy_dtype = std::integral<T> ? "<i8"
                                         : sizeof(T) == 4 ? "<f4"
                                                          : "<f8";

/// Parses the text of a header: {'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }
class npy_header {
 public:
  std::string_view dtype;
  bool fortran_order = false;
  std::vector<Eigen::Index> shape;

  npy_header(std::string_view header, const file_task& task) : rest_(header), task_(task) {
    for (const char c : header)  // first, because errors quote the header
      if (c != '\t' && (c < ' ' || c > '~'))
        task.reject("a header in printable ASCII", concat("byte ", int{static_cast<unsigned char>(c)}));
    advance();
    expect(token_ == "{", "'{'");
    std::vector<std::string_view> keys;
    while (token_ != "}") {
      const auto key = keys.emplace_back(string("a key"));
      if (std::count(keys.begin(), keys.end(), key) > 1) task.reject("each key once", concat("'", key, "' twice"));
      expect(token_ == ":", "':'");
      if (key == "descr")
        dtype = string("a dtype of plain numbers");
      else if (key == "fortran_order")
        fortran_order = expect(token_ == "True" || token_ == "False", "True or False") == "True";
      else if (key == "shape")
        read_shape();
      else
        task.reject("the keys descr, fortran_order and shape", concat("'", key, "'"));
      if (token_ != "}") expect(token_ == ",", "',' or '}'");
    }
    advance();
    expect(token_.empty(), "nothing after '}'");
    if (keys.size() < 3) task.reject("the keys descr, fortran_order and shape", concat("only ", keys.size()));
  }

 private:
  /// Reads the next token: a string with its quotes, a punctuation mark, or the text up to the next of these. It is
  /// empty at the end.
  void advance() {
    rest_.remove_prefix(std::min(rest_.find_first_not_of(" \t"), rest_.size()));
    auto length = rest_.find_first_of("{}()[]:,'\" \t");
    if (length == 0) length = 1 + (is_quote(rest_[0]) ? std::min(rest_.find(rest_[0], 1), rest_.size() - 1) : 0);
    token_ = rest_.substr(0, length);
    rest_.remove_prefix(token_.size());
  }

  /// Returns the current token and reads the next. Throws if the current one is not valid.
  std::string_view expect(bool valid, const char* expected) {
    if (!valid) task_.reject(concat(expected, " in the header"), token_.empty() ? "its end" : std::string(token_));
    const auto token = token_;
    advance();
    return token;
  }

  std::string_view string(const char* expected) {
    const auto quoted = expect(token_.size() > 1 && is_quote(token_[0]) && token_.back() == token_[0], expected);
    return quoted.substr(1, quoted.size() - 2);
  }

  /// Reads a tuple: (), (3,), (3, 4), … As in Python, (3) is not a tuple.
  void read_shape() {
    expect(token_ == "(", "'('");
    while (token_ != ")") {
      const auto last = token_.data() + token_.size();
      const auto [end, error] = std::from_chars(token_.data(), last, shape.emplace_back());
      const bool plain = token_.size() < 2 || token_[0] > '0';  // no sign, no leading zero
      constexpr bool wide = sizeof(Eigen::Index) == 8;
      expect(error == std::errc{} && end == last && plain,
             wide ? "sizes from 0 up to 63 bits" : "sizes from 0 up to 31 bits");
      if (shape.size() == 1 || token_ != ")") expect(token_ == ",", "','");
    }
    advance();
  }

  static bool is_quote(char c) { return c == '\'' || c == '"'; }

  std::string_view token_, rest_;
  const file_task& task_;
};

/// The position and shape of a file's data. If it has one dimension, rows and columns are both its size.
struct npy_data {
  std::size_t offset;
  Eigen::Index rows, columns;
};

/// Finds the data in the bytes of a file, and checks that it has this dtype and number of dimensions and is complete.
inline npy_data find_npy_data(const file_task& task, std::string_view file, std::string_view dtype,
                              std::size_t scalar_size, std::size_t dimensions) {
  if (file.empty()) task.reject("a .npy file", "no bytes");
  if (!file.starts_with(npy_magic)) task.reject("a .npy file", "other first bytes");
  if (file.size() < 12) task.reject("a header", concat("a file of ", file.size(), " bytes"));
  const auto byte = [&](std::size_t i) { return std::size_t{static_cast<unsigned char>(file[i])}; };
  if (byte(6) < 1 || byte(6) > 3 || byte(7) != 0) task.reject("version 1.0, 2.0 or 3.0", concat(byte(6), ".", byte(7)));
  const std::size_t begin = byte(6) == 1 ? 10 : 12;
  std::size_t length = 0;
  for (std::size_t i = begin; i-- > 8;) length = length << 8 | byte(i);
  if (length > 10'000) task.reject("a header of at most 10000 bytes", concat(length));  // NumPy's own limit
  if (file.size() - begin < length)
    task.reject(concat("a header of ", length, " bytes"), concat("only ", file.size() - begin));
  const std::size_t offset = begin + length;
  if (file[offset - 1] != '\n') task.reject("a header that ends in a newline", "none");

  const npy_header header(file.substr(begin, length - 1), task);
  const auto& shape = header.shape;
  if (header.dtype.starts_with('>')) task.reject("little-endian numbers", concat("'", header.dtype, "'"));
  if (header.dtype != dtype) task.reject(concat("dtype '", dtype, "'"), concat("'", header.dtype, "'"));
  // The order does not matter if there are no numbers, or if they differ in one index only.
  const bool ordered = std::count(shape.begin(), shape.end(), 0) == 0 &&
                       std::count_if(shape.begin(), shape.end(), [](auto n) { return n > 1; }) > 1;
  if (header.fortran_order && ordered) task.reject("row-major data", "Fortran order");
  if (shape.size() != dimensions)
    task.reject(concat(dimensions, "-dimensional data"), concat(shape.size(), "-dimensional"));

  std::size_t expected = scalar_size;
  for (const auto n : shape) {
    if (n > 0 && expected > PTRDIFF_MAX / static_cast<std::size_t>(n))
      task.reject("sizes that memory can hold", "larger ones");
    expected *= static_cast<std::size_t>(n);
  }
  const std::size_t got = file.size() - offset;
  if (got < expected) task.reject(concat(expected, " bytes of data"), concat("only ", got));
  if (got > expected)
    task.reject(concat("the end after ", expected, " bytes of data"), concat(got - expected, " more"));
  if (offset % scalar_size != 0)
    task.reject(concat("data at a multiple of ", scalar_size, " bytes"), concat("data at ", offset));
  return {offset, shape.front(), shape.back()};
}

/// The bytes before the data, as NumPy writes them: the data starts at a multiple of 64 bytes. shape: "3, 4", or "3,".
inline std::string npy_preamble(const char* dtype, const std::string& shape) {
  auto header = concat("{'descr': '", dtype, "', 'fortran_order': False, 'shape': (", shape, "), }");
  header.append(63 - (10 + header.size()) % 64, ' ').append("\n");  // at most 118 bytes
  const char version_and_length[] = {1, 0, static_cast<char>(header.size()), 0};
  return concat(npy_magic, std::string_view(version_and_length, 4), header);
}

}  // namespace INFALIGN_NAMESPACE::detail

#include <infalign/detail/end.hpp>
