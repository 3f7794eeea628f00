// SPDX-License-Identifier: MIT
#include <infalign/adapters/gzip.hpp>
#include <infalign/adapters/jsonl.hpp>

#include "catch.hpp"
#include "files.hpp"

#include <filesystem>
#include <iterator>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

using namespace infalign;

namespace {

/// What zlib makes of a text, as the gzip program does.
std::string compressed(const std::string& text) {
  z_stream stream{};
  REQUIRE(deflateInit2(&stream, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) == Z_OK);
  std::string result(deflateBound(&stream, text.size()), '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  stream.avail_in = static_cast<uInt>(text.size());
  stream.next_out = reinterpret_cast<Bytef*>(result.data());
  stream.avail_out = static_cast<uInt>(result.size());
  REQUIRE(deflate(&stream, Z_FINISH) == Z_STREAM_END);
  result.resize(stream.total_out);
  deflateEnd(&stream);
  return result;
}

/// All that a file has, or the error of reading it.
std::string text_of(const std::filesystem::path& file) {
  try {
    gzip_istream in(file);
    return {std::istreambuf_iterator<char>(in), {}};
  } catch (const std::runtime_error& error) {
    return error.what();
  }
}
std::string log_error(const std::filesystem::path& file) {
  try {
    gzip_istream in(file);
    read_jsonl<double>(in, file.string());
  } catch (const std::runtime_error& error) {
    return error.what();
  }
  return "no error";
}

/// Text that does not compress well, of this many bytes.
std::string random_text(std::size_t size) {
  std::mt19937 random(7);
  std::string result(size, ' ');
  for (char& c : result) c = static_cast<char>('0' + random() % 64);
  return result;
}

}  // namespace

TEST_CASE("A compressed file is read to its end, whatever its size") {
  const temporary_folder folder;
  for (const std::size_t size : {0u, 1u, 65535u, 65536u, 65537u, 1000000u}) {
    CAPTURE(size);
    const std::string text = random_text(size);
    CHECK(text_of(put(folder / "a.gz", compressed(text))) == text);
  }
}

TEST_CASE("Parts that were compressed one by one are read one after another") {
  const temporary_folder folder;
  CHECK(text_of(put(folder / "a.gz", compressed("one\n") + compressed("") + compressed("two\n"))) == "one\ntwo\n");
}

TEST_CASE("A compressed log is the log") {
  const temporary_folder folder;
  const auto file = put(folder / "log.jsonl.gz", compressed("{\"prompt\": \"a\", \"rewards\": [1, 2.5]}\n\n"
                                                            "{\"prompt\": \"b\", \"rewards\": [-3]}"));
  gzip_istream in(file);
  const auto log = read_jsonl<float>(in, "log");
  CHECK(log.prompts == std::vector<std::string>{"a", "b"});
  REQUIRE(log.rewards.rows() == 2);
  CHECK(log.rewards.row(0)[1] == 2.5f);
  CHECK(log.rewards.row(1)[0] == -3);
}

TEST_CASE("Every beginning of a compressed log is an error, which says what is wrong") {
  const temporary_folder folder;
  const std::string text = "{\"rewards\": [1]}\n{\"rewards\": [2]}\n", whole = compressed(text);
  const auto name = (folder / "log.jsonl.gz").string();
  for (std::size_t size = 0; size < whole.size(); ++size) {
    CAPTURE(size);
    const auto file = put(folder / "log.jsonl.gz", whole.substr(0, size));
    CHECK(log_error(file) == name + (size < 2 ? ": expected a gzip file" : ": ends too early"));
  }
  CHECK(log_error(put(folder / "log.jsonl.gz", whole)) == "no error");
  const std::string large = compressed(random_text(1000000));  // of several pieces
  CHECK(text_of(put(folder / "log.jsonl.gz", large.substr(0, large.size() / 2))) == name + ": ends too early");
}

TEST_CASE("A file of another kind, a damaged one, a folder and no file are errors") {
  const temporary_folder folder;
  const auto name = (folder / "log.gz").string();
  const std::string text = random_text(200000), whole = compressed(text);
  CHECK(text_of(put(folder / "log.gz", "{\"rewards\": [1]}\n")) == name + ": expected a gzip file");
  CHECK(text_of(put(folder / "log.gz", text)) == name + ": expected a gzip file");
  std::string damaged = whole;
  damaged[damaged.size() - 8] ^= 1;  // the checksum
  CHECK(log_error(put(folder / "log.gz", damaged)) == name + ": is damaged");
  CHECK(text_of(folder / "none.gz") == (folder / "none.gz").string() + ": cannot be opened");
  CHECK(text_of(folder.name) == folder.name.string() + ": cannot be opened");
}
