// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/detail/mapped_file.hpp>

#include <algorithm>

#include <infalign/detail/begin.hpp>

/// \file
/// Atomic replacement of a file.
namespace INFALIGN_NAMESPACE::detail {

/// Writes a file under a temporary name in its folder; `commit` renames it. A reader of the final name, even after a
/// crash, sees all old bytes or all new bytes. Without `commit`, the destructor removes the temporary file.
class file_replacement {
 public:
  explicit file_replacement(const file_task& task)
      : task_(task), folder_{::open((task.file.parent_path() / ".").c_str(), O_RDONLY | O_CLOEXEC)} {
    if (folder_.number < 0) task_.fail_system("open the folder of");
    for (int attempt = 0; number_ < 0; ++attempt) {  // another thread or a crashed process may have used the name
      name_ = concat(task_.file.string(), ".tmp", ::getpid(), ".", attempt);
      number_ = ::open(name_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
      if (number_ < 0 && errno != EEXIST && errno != EINTR) task_.fail_system("create");
    }
  }
  file_replacement(const file_replacement&) = delete;
  file_replacement& operator=(const file_replacement&) = delete;
  ~file_replacement() {
    ::close(number_);
    if (!renamed_) ::unlink(name_.c_str());
  }

  /// Appends bytes. Small pieces are collected, so that a system call writes about 1 MiB or more.
  void append(std::string_view bytes) {
    constexpr std::size_t capacity = std::size_t{1} << 20;
    if (buffer_.size() + bytes.size() > capacity) flush();
    if (bytes.size() < capacity)
      buffer_ += bytes;
    else
      write(bytes);
  }

  /// Writes everything to the disk and gives the file its final name.
  void commit() {
    flush();
    if (uninterrupted([&] { return ::fsync(number_); }) != 0) task_.fail_system("write");
    if (::rename(name_.c_str(), task_.file.c_str()) != 0) task_.fail_system("replace");
    renamed_ = true;
    const int synced = uninterrupted([&] { return ::fsync(folder_.number); });
    if (synced != 0 && errno != EINVAL) task_.fail_system("sync the folder of");  // EINVAL: folders cannot be synced
  }

 private:
  void flush() {
    write(buffer_);
    buffer_.clear();
  }

  void write(std::string_view rest) {
    while (!rest.empty()) {
      const auto size = std::min(rest.size(), std::size_t{1} << 30);  // some systems write less than 2 GiB at once
      const auto written = uninterrupted([&] { return ::write(number_, rest.data(), size); });
      if (written < 0) task_.fail_system("write");
      rest.remove_prefix(static_cast<std::size_t>(written));
    }
  }

  const file_task task_;
  const descriptor folder_;
  std::string name_, buffer_;
  int number_ = -1;
  bool renamed_ = false;
};

}  // namespace INFALIGN_NAMESPACE::detail

#include <infalign/detail/end.hpp>
