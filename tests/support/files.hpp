// SPDX-License-Identifier: MIT
#pragma once

#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <vector>

/// \file
/// Files of tests.

/// An empty folder, removed at the end of its scope.
struct temporary_folder {
  std::filesystem::path name;

  temporary_folder() {
    auto pattern = (std::filesystem::temp_directory_path() / "infalign_XXXXXX").string();
    if (::mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("no temporary folder");
    name = pattern;
  }
  temporary_folder(const temporary_folder&) = delete;
  temporary_folder& operator=(const temporary_folder&) = delete;
  ~temporary_folder() { std::filesystem::remove_all(name); }

  std::filesystem::path operator/(const std::filesystem::path& file) const { return name / file; }

  std::vector<std::string> files() const {
    std::vector<std::string> result;
    for (const auto& entry : std::filesystem::directory_iterator(name)) result.push_back(entry.path().filename());
    return result;
  }
};

/// Writes a file and returns its name.
inline std::filesystem::path put(const std::filesystem::path& file, const std::string& bytes) {
  std::filesystem::remove(file);  // faster than overwriting, after which some file systems wait for the disk
  std::ofstream(file, std::ios::binary) << bytes;
  return file;
}

inline std::string bytes_of(const std::filesystem::path& file) {
  std::ifstream stream(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}
