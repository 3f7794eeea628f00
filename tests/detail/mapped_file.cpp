// SPDX-License-Identifier: MIT
#include <infalign/detail/mapped_file.hpp>

#include "catch.hpp"
#include "files.hpp"

using namespace infalign::detail;
using namespace std::string_literals;
using std::filesystem::path;

namespace {

mapped_file map(const path& file) {
  return map_file({"test", file});
}

std::ptrdiff_t open_descriptors() {
  const path folder = "/proc/self/fd";  // on Linux
  return std::filesystem::exists(folder) ? std::distance(std::filesystem::directory_iterator(folder), {}) : 0;
}

}  // namespace

TEST_CASE("A mapped file has the file's bytes, and uses no descriptor") {
  const temporary_folder folder;
  const auto before = open_descriptors();
  const std::string large(1'000'003, 'x');
  const auto small = map(put(folder / "small", "a\0b\n"s)), other = map(put(folder / "large", large));
  CHECK(small.bytes() == "a\0b\n"s);
  CHECK(other.bytes() == large);
  CHECK(open_descriptors() == before);
}

TEST_CASE("An empty file has no bytes") {
  const temporary_folder folder;
  const auto empty = map(put(folder / "empty", ""));
  CHECK(empty.size == 0);
  CHECK(empty.bytes().empty());
}

TEST_CASE("A mapping lasts as long as a copy of its start, also if the file is removed") {
  const temporary_folder folder;
  const auto file = put(folder / "file", "content");
  std::shared_ptr<const char> start;
  {
    const auto mapped = map(file);
    start = mapped.start;
  }
  std::filesystem::remove(file);
  CHECK(std::string_view(start.get(), 7) == "content");
}

TEST_CASE("A file that cannot be mapped is an error that says why") {
  const temporary_folder folder;
  const auto before = open_descriptors();
  CHECK(error_of([&] { map(folder.name); }) ==
        "test: expected a regular file, got a folder or a device in " + folder.name.string());
  const auto pipe = folder / "pipe";
  REQUIRE(::mkfifo(pipe.c_str(), 0600) == 0);  // an ordinary open would wait for a writer
  CHECK(error_of([&] { map(pipe); }) == "test: expected a regular file, got a folder or a device in " + pipe.string());
  const auto none = folder / "none";
  CHECK(error_of([&] { map(none); }) ==
        "another exception: test: could not open " + none.string() + ": No such file or directory");
  CHECK(open_descriptors() == before);
}

TEST_CASE("A system call is repeated until no signal interrupts it") {
  int calls = 0;
  const auto interrupted_twice = [&] {
    errno = EINTR;
    return ++calls < 3 ? -1 : 5;
  };
  CHECK(uninterrupted(interrupted_twice) == 5);
  CHECK(calls == 3);
  calls = 0;
  const auto failing = [&] {
    ++calls;
    errno = EIO;
    return -1;
  };
  CHECK(uninterrupted(failing) == -1);
  CHECK(calls == 1);
}
