// SPDX-License-Identifier: MIT
#include <infalign/detail/replace_file.hpp>

#include "catch.hpp"
#include "files.hpp"

#include <sys/resource.h>
#include <sys/wait.h>

#include <csignal>
#include <fstream>
#include <string>
#include <vector>

using namespace infalign::detail;
using std::filesystem::path;

namespace {

/// Replaces a file by these pieces.
void replace(const path& file, const std::vector<std::string>& pieces) {
  file_replacement out({"test", file});
  for (const auto& piece : pieces) out.append(piece);
  out.commit();
}

/// The number of write system calls of this process, which Linux counts; −1 if it does not.
long write_calls() {
  std::ifstream counts("/proc/self/io");
  for (std::string key; counts >> key;)
    if (long value = 0; key == "syscw:" && counts >> value) return value;
  return -1;
}

/// From here on, this process cannot write beyond the first 1000 bytes of a file, as if the disk were full. Returns the
/// limit before.
rlimit limit_files() {
  rlimit limit;
  ::getrlimit(RLIMIT_FSIZE, &limit);
  const auto before = limit;
  limit.rlim_cur = 1000;
  ::setrlimit(RLIMIT_FSIZE, &limit);
  return before;
}

}  // namespace

TEST_CASE("A file is created or replaced by the pieces in their order, whatever their sizes") {
  const temporary_folder folder;
  const auto file = folder / "file";
  constexpr std::size_t buffer = std::size_t{1} << 20;
  const std::vector<std::vector<std::size_t>> cases{{},
                                                    {0},
                                                    {5},
                                                    {1, 0, 2},
                                                    {buffer},
                                                    {buffer - 1, 1, 1},
                                                    {buffer - 1, 2},
                                                    {3, buffer, 3},
                                                    {3, 3 * buffer + 1, buffer - 1, buffer, 7},
                                                    std::vector<std::size_t>(5000, 701)};
  for (const auto& sizes : cases) {
    std::vector<std::string> pieces;
    std::string whole;
    for (const auto size : sizes) {
      auto& piece = pieces.emplace_back(size, ' ');
      for (std::size_t i = 0; i < size; ++i) piece[i] = static_cast<char>('a' + (pieces.size() + i) % 23);
      whole += piece;
    }
    replace(file, pieces);
    CHECK((bytes_of(file) == whole));
    CHECK(folder.files() == std::vector<std::string>{"file"});
  }
}

TEST_CASE("Small pieces share a system call") {
  const temporary_folder folder;
  const auto before = write_calls();
  replace(folder / "file", std::vector<std::string>(100'000, std::string(30, 'x')));  // 2.9 MiB
  const auto calls = write_calls() - before;
  CHECK(std::filesystem::file_size(folder / "file") == 3'000'000);
  if (before < 0 || calls == 0)
    WARN("not tested: the system does not count its calls");
  else
    CHECK(calls < 10);  // 3, and those of a sanitizer
}

TEST_CASE("Without a commit, the old file stays and nothing is left behind") {
  const temporary_folder folder;
  const auto file = put(folder / "file", "old");
  {
    file_replacement out({"test", file});
    out.append(std::string(3'000'000, 'x'));
    CHECK(folder.files().size() == 2);
    CHECK(bytes_of(file) == "old");
  }
  CHECK(bytes_of(file) == "old");
  CHECK(folder.files() == std::vector<std::string>{"file"});
}

TEST_CASE("A replacement that fails throws, leaves the old file unchanged, and leaves nothing behind") {
  const temporary_folder folder;
  const std::string old(152, 'o'), larger(1728, 'l');
  const auto error = [](const path& file, const std::string& bytes = "new") {
    return error_of([&] { replace(file, {bytes}); });
  };
  const auto none = folder / "none" / "file";
  CHECK(error(none) ==
        "another exception: test: could not open the folder of " + none.string() + ": No such file or directory");
  const auto below_file = put(folder / "file", "x") / "file";
  CHECK(error(below_file) ==
        "another exception: test: could not open the folder of " + below_file.string() + ": Not a directory");
  const auto long_name = folder / std::string(300, 'x');
  CHECK(error(long_name) == "another exception: test: could not create " + long_name.string() + ": File name too long");
  std::filesystem::create_directory(folder / "taken");
  CHECK(error(folder / "taken") ==
        "another exception: test: could not replace " + (folder / "taken").string() + ": Is a directory");
  std::filesystem::remove(folder / "taken");
  std::filesystem::remove(folder / "file");
  CHECK(folder.files().empty());

  const auto file = folder / "file";
  replace(file, {old});
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  const auto before = limit_files();
  const auto full = error(file, larger);
  ::setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, handler);
  CHECK(full == "another exception: test: could not write " + file.string() + ": File too large");
  CHECK(bytes_of(file) == old);
  CHECK(folder.files() == std::vector<std::string>{"file"});
}

TEST_CASE("After a crash during a write the old file is unchanged, and a new write succeeds") {
  const temporary_folder folder;
  const std::string old(152, 'o'), larger(1728, 'l');
  const auto file = folder / "file";
  replace(file, {old});
  const auto child = ::fork();
  if (child == 0) {  // the limit kills this process before it can remove its temporary file
    std::signal(SIGXFSZ, SIG_DFL);
    const rlimit no_core{0, 0};
    ::setrlimit(RLIMIT_CORE, &no_core);
    limit_files();
    error_of([&] { replace(file, {larger}); });
    ::_exit(0);
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  CHECK((WIFSIGNALED(status) && WTERMSIG(status) == SIGXFSZ));
  CHECK(bytes_of(file) == old);
  CHECK(folder.files().size() == 2);

  // A file left by a crashed process with this process's number does not prevent a write.
  const auto left = put(file.string() + ".tmp" + std::to_string(::getpid()) + ".0", "x");
  replace(file, {larger});
  CHECK(bytes_of(file) == larger);
  CHECK(bytes_of(left) == "x");
  CHECK(folder.files().size() == 3);
}
