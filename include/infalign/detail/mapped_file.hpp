// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#if !__has_include(<sys/mman.h>)
#error "infalign/adapters/npy.hpp maps files into memory and needs a POSIX system"
#endif

#include <infalign/detail/errors.hpp>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <filesystem>
#include <memory>
#include <string_view>
#include <system_error>

#include <infalign/detail/begin.hpp>

/// \file
/// Files mapped into memory for reading, and the errors of system calls.
namespace INFALIGN_NAMESPACE::detail {

/// A function's name and the file that it works on, for error messages.
struct file_task {
  const char* function;
  const std::filesystem::path& file;

  [[noreturn]] void reject(const std::string& expected, const std::string& got) const {
    fail(function, expected, concat(got.size() > 200 ? got.substr(0, 200) + "..." : got, " in ", file.string()));
  }
  /// Call it directly after the system call that set errno.
  [[noreturn]] void fail_system(const char* action) const {
    const auto reason = std::generic_category().message(errno);
    raise(std::runtime_error(concat(function, ": could not ", action, " ", file.string(), ": ", reason)));
  }
};

/// A file descriptor that is closed at the end of its scope. (Closing −1 does nothing.)
struct descriptor {
  const int number;
  ~descriptor() { ::close(number); }
};

/// Repeats a system call until no signal interrupts it.
template <class Call>
auto uninterrupted(Call call) {
  auto result = call();
  while (result == -1 && errno == EINTR) result = call();
  return result;
}

/// The bytes of a file. They stay mapped until the last copy of `start` is destroyed.
struct mapped_file {
  std::shared_ptr<const char> start;
  std::size_t size;

  std::string_view bytes() const { return {start.get(), size}; }
};

/// Maps a whole file without reading it. An empty file has size 0 and no mapping.
inline mapped_file map_file(const file_task& task) {
  constexpr int flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK;  // without O_NONBLOCK, opening a FIFO would wait
  const descriptor opened{uninterrupted([&] { return ::open(task.file.c_str(), flags); })};
  struct stat status {};
  if (opened.number < 0 || ::fstat(opened.number, &status) != 0) task.fail_system("open");
  if (!S_ISREG(status.st_mode)) task.reject("a regular file", "a folder or a device");
  if (status.st_size == 0) return {nullptr, 0};
  const auto size = static_cast<std::size_t>(status.st_size);
  void* const start = ::mmap(nullptr, size, PROT_READ, MAP_SHARED, opened.number, 0);
  if (start == MAP_FAILED) task.fail_system("map");
  return {{static_cast<const char*>(start), [start, size](const char*) { ::munmap(start, size); }}, size};
}

}  // namespace INFALIGN_NAMESPACE::detail

#include <infalign/detail/end.hpp>
