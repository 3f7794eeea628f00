// SPDX-License-Identifier: MIT
// Writers of a table are killed at random moments, and the disk is full: a reader finds all old numbers or all new ones.
#include <infalign/adapters/npy.hpp>

#include "catch.hpp"
#include "files.hpp"

#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <random>
#include <string>
#include <thread>

using namespace infalign;

namespace {

/// A table of one number: `value`. Large enough for several system calls, with rows of a length of its own.
matrix<float> table_of_one(int value) {
  return matrix<float>::Constant(500 + 100 * (value % 7), 600, static_cast<float>(value));
}

/// True if a file is a whole table of one number.
bool is_whole(const std::filesystem::path& file) {
  const npy_table<float> table(file);
  const float value = table.row(0)[0];
  if (table.rows() != table_of_one(static_cast<int>(value)).rows()) return false;
  for (Eigen::Index p = 0; p < table.rows(); ++p)
    if (!(table.row(p) == value).all()) return false;
  return true;
}

}  // namespace

TEST_CASE("After 200 writers that are killed, the file is whole each time") {
  const temporary_folder folder;
  const auto file = folder / "table.npy";
  write_npy(file, table_of_one(0));
  std::mt19937 random(1);
  int begun = 0;
  for (int round = 1; round <= 200; ++round) {
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
      for (int value = round;; value += 1000) write_npy(file, table_of_one(value));
    }
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 15'000));
    ::kill(child, SIGKILL);
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    CHECK(is_whole(file));
    begun += npy_table<float>(file).row(0)[0] > 0;
  }
  CHECK(begun > 100);  // most rounds saw a table of a killed writer
  // What is left is named after the process, and nothing reads it.
  for (const auto& name : folder.files()) CHECK((name == "table.npy" || name.starts_with("table.npy.tmp")));
}

TEST_CASE("On a full disk the error says so, the old file is unchanged, and no other is left") {
  const temporary_folder folder;
  if (::mount("none", folder.name.c_str(), "tmpfs", 0, "size=1m") != 0) {
    WARN("skipped: only root can mount a small file system");
    return;
  }
  const auto file = folder / "table.npy";
  write_npy(file, matrix<float>(table_of_one(3).topRows(10)));
  std::string error;
  try {
    write_npy(file, table_of_one(4));
  } catch (const std::runtime_error& e) {
    error = e.what();
  }
  CHECK(error.find("write_npy: could not write") == 0);
  CHECK(error.find("No space left on device") != std::string::npos);
  CHECK(folder.files() == std::vector<std::string>{"table.npy"});
  CHECK(npy_table<float>(file).rows() == 10);
  CHECK((npy_table<float>(file).row(9) == 3.0f).all());
  CHECK(::umount(folder.name.c_str()) == 0);
}
