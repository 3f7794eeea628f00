// SPDX-License-Identifier: MIT
// Bytes as a .npy file: an error with a good message, or a table whose numbers can all be read, and which is written and read
// back as it is.
#include <infalign/adapters/npy.hpp>

#include "fuzz.hpp"

#include <filesystem>
#include <fstream>
#include <string>

using namespace infalign;

namespace {

const std::filesystem::path folder = [] {
  auto path = std::filesystem::temp_directory_path() / ("fuzz_npy" + std::to_string(::getpid()));
  std::filesystem::create_directories(path);
  std::atexit([] { std::filesystem::remove_all(folder); });
  return path;
}();

std::string content(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

template <class S>
void read_table(const std::filesystem::path& file) {
  try {
    const npy_table<S> table(file);
    std::size_t bytes = 0;
    matrix<S> copy(0, 0);
    for (Eigen::Index p = 0; p < std::min<Eigen::Index>(table.rows(), 1000); ++p) {
      const auto row = table.row(p);
      if (p == 0) copy.resize(std::min<Eigen::Index>(table.rows(), 1000), row.size());
      copy.row(p) = row.transpose();
      bytes += static_cast<std::size_t>(row.size()) * sizeof(S);
    }
    fuzz::require(bytes <= content(file).size(), "a table is not larger than its file");
    const auto again = folder / "again.npy";
    write_npy(again, copy);
    const npy_table<S> other(again);
    fuzz::require(other.rows() == copy.rows(), "a table that is written has as many rows");
    for (Eigen::Index p = 0; p < other.rows(); ++p)
      fuzz::require(std::memcmp(other.row(p).data(), copy.data() + p * copy.cols(),
                                static_cast<std::size_t>(copy.cols()) * sizeof(S)) == 0,
                    "a table that is written has the same numbers");
  } catch (const std::exception& error) {
    fuzz::require_message(error);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto file = folder / "file.npy";
  const auto write = [&](std::string_view text) {
    std::ofstream(file, std::ios::binary).write(text.data(), static_cast<std::streamsize>(text.size()));
    read_table<float>(file);
    read_table<double>(file);
    try {
      const npy_array<std::int64_t> array(file);
      std::int64_t sum = 0;
      for (const auto x : array.view()) sum ^= x;
      static_cast<void>(sum);
    } catch (const std::exception& error) {
      fuzz::require_message(error);
    }
  };
  const std::string_view raw(reinterpret_cast<const char*>(data), size);
  write(raw);
  // Again as what follows a right beginning: the header's length and then the header come from the bytes.
  if (size < 2) return 0;
  const std::size_t length = std::min<std::size_t>(data[0], size - 1);
  std::string header(raw.substr(1, length));
  header.append((64 - (10 + header.size() + 1) % 64) % 64, ' ').append("\n");
  std::string text(detail::npy_magic);
  text += '\1', text += '\0', text += static_cast<char>(header.size() & 255),
      text += static_cast<char>(header.size() >> 8);
  write(text + header + std::string(raw.substr(1 + length)));
  return 0;
}
