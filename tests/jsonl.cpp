// SPDX-License-Identifier: MIT
#include "catch.hpp"

#include <infalign/calibration.hpp>
#include <infalign/jsonl.hpp>
#include <infalign/prompt_keys.hpp>

#include <filesystem>
#include <fstream>
#include <limits>
#include <random>
#include <sstream>
#include <stdexcept>
#include <streambuf>
#include <string>
#include <vector>

using namespace infalign;
using Eigen::Index;

namespace {

template <class S = double>
jsonl_rewards<S> read(const std::string& lines) {
  std::istringstream in(lines);
  return read_jsonl<S>(in, "-");
}

/// The rows, each a list.
template <class S>
std::vector<std::vector<S>> rows(const jsonl_rewards<S>& log) {
  std::vector<std::vector<S>> result;
  for (Index p = 0; p < log.rewards.rows(); ++p)
    result.emplace_back(log.rewards.row(p).begin(), log.rewards.row(p).end());
  return result;
}

/// The text of the std::runtime_error that f throws.
template <class F>
std::string refusal_of(F f) {
  try {
    f();
  } catch (const std::runtime_error& error) {
    return error.what();
  }
  return "no error";
}
template <class S = double>
std::string refusal(const std::string& lines) {
  return refusal_of([&] { read<S>(lines); });
}
bool begins(const std::string& whole, const std::string& part) {
  return whole.compare(0, part.size(), part) == 0;
}

/// A folder of its own, gone at the end.
struct folder {
  std::filesystem::path path =
      std::filesystem::temp_directory_path() / ("infalign_jsonl_" + std::to_string(std::random_device{}()));
  folder() { std::filesystem::create_directory(path); }
  ~folder() { std::filesystem::remove_all(path); }
};

}  // namespace

TEMPLATE_TEST_CASE("Lines of rewards, of any length", "", float, double) {
  using S = TestType;
  const auto log = read<S>(
      "{\"prompt\": \"two\", \"rewards\": [0, 1], \"lengths\": [5, 9]}\n"
      "{\"rewards\": [0.1, 1000, -1e3], \"prompt\": \"\"}\r\n"
      "\n \t\r\n"
      "{\"unknown\": {\"rewards\": null}, \"rewards\": [-2.0]}");
  CHECK(log.prompts == std::vector<std::string>{"two", "", ""});
  CHECK(rows(log) == std::vector<std::vector<S>>{{0, 1}, {S(0.1), 1000, -1000}, {-2}});

  const calibration shape{log.rewards};
  const matrix<S> u = shape(matrix<S>{{1, 0}, {0, 1000}, {-2, 7}});
  CHECK((u == matrix<S>{{0.75, 0.25}, {S(1. / 3), S(2.5 / 3)}, {0.5, 1}}).all());
}

TEST_CASE("A prompt is a string, any other value, or not there") {
  const auto log = read(
      "{\"prompt\": \"h\\u00e4keln \\\"so\\\"\\n\", \"rewards\": [1]}\n"
      "{\"prompt\": [{\"role\": \"user\", \"content\": \"Hi, é\"}, {\"role\": \"assistant\"}], \"rewards\": [2]}\n"
      "{\"prompt\": 7, \"rewards\": [3]}\n"
      "{\"prompt\": null, \"rewards\": [4]}\n"
      "{\"rewards\": [5]}\n");
  CHECK(log.prompts == std::vector<std::string>{"häkeln \"so\"\n",
                                                "[{\"content\":\"Hi, é\",\"role\":\"user\"},{\"role\":\"assistant\"}]",
                                                "7", "null", ""});
}

TEST_CASE("Prompts are found by name") {
  const auto log = read("{\"prompt\": \"a\", \"rewards\": [1, 2]}\n{\"prompt\": \"b\", \"rewards\": [3, 4, 5, 6]}\n");
  const prompt_keys keys{log.prompts};
  const calibration shape{log.rewards};
  const array<double> u = shape(keys(std::vector<std::string>{"b", "a"}), array<double>{{3.5, 2}});
  CHECK((u == array<double>{{0.25, 0.75}}).all());
  CHECK(error_of([] { prompt_keys{read("{\"rewards\": [1]}\n{\"rewards\": [1]}\n").prompts}; }) ==
        "prompt_keys: expected keys that differ, got \"\" at index 0 and again at index 1");
}

TEST_CASE("Lines that are none are refused, with their place") {
  CHECK(begins(refusal("{\"rewards\": [1]}\nnot JSON\n"), "-:2: not JSON: "));
  CHECK(begins(refusal("{\"rewards\": [1]\n"), "-:1: not JSON: "));
  CHECK(begins(refusal("{\"rewards\": [1]} {\"rewards\": [1]}\n"), "-:1: not JSON: "));
  CHECK(refusal("[1, 2]\n") == "-:1: expected an object with the key \"rewards\"");
  CHECK(refusal("{\"prompt\": \"x\"}\n") == "-:1: expected an object with the key \"rewards\"");
  CHECK(refusal("{\"rewards\": 3}\n") == "-:1: expected \"rewards\" to be a list of at least one number");
  CHECK(refusal("{\"rewards\": []}\n") == "-:1: expected \"rewards\" to be a list of at least one number");
  CHECK(refusal("{\"rewards\": {\"0\": 1}}\n") == "-:1: expected \"rewards\" to be a list of at least one number");
  CHECK(refusal("{\"rewards\": [1]}\n\n{\"rewards\": [1, \"2\"]}\n") ==
        "-:3: expected a number at rewards[1], got \"2\"");
  CHECK(refusal("{\"rewards\": [1]}\r\n\r\n{\"rewards\": [[1]]}\r\n") ==
        "-:3: expected a number at rewards[0], got [1]");
  CHECK(refusal("{\"rewards\": [null]}\n") == "-:1: expected a number at rewards[0], got null");
  CHECK(refusal("{\"rewards\": [true]}\n") == "-:1: expected a number at rewards[0], got true");
  CHECK(begins(refusal("{\"rewards\": [NaN]}\n"), "-:1: not JSON: "));
  CHECK(begins(refusal("{\"rewards\": [Infinity]}\n"), "-:1: not JSON: "));
  CHECK(begins(refusal("{\"rewards\": [1e999]}\n"), "-:1: not JSON: "));
  CHECK(begins(refusal("{\"prompt\": \"\xff\", \"rewards\": [1]}\n"), "-:1: not JSON: "));
  const auto nested = [](std::size_t depth) {
    return "{\"prompt\": " + std::string(depth, '[') + std::string(depth, ']') + ", \"rewards\": [1]}";
  };
  CHECK(read(nested(900)).prompts[0].size() == 1800);
  CHECK(refusal(nested(1000000)) == "-:1: expected at most 1000 lists and objects within each other");
  CHECK(refusal("") == "-: no lines of rewards");
  CHECK(refusal(" \n\r\n\n") == "-: no lines of rewards");
}

TEST_CASE("Numbers that a float cannot hold are refused, and its own are not") {
  const auto log = read<float>("{\"rewards\": [3.4028235e+38, -3.4028235e38, 1e-46, 16777217, 0.1]}");
  const float max = std::numeric_limits<float>::max();
  CHECK(rows(log) == std::vector<std::vector<float>>{{max, -max, 0, 16777216, 0.1f}});
  CHECK(refusal<float>("{\"rewards\": [0]}\n{\"rewards\": [1, -1e39]}\n") ==
        "-:2: expected a number that a float can hold at rewards[1], got -1e+39");
  CHECK(rows(read("{\"rewards\": [1e308, -1e308, 18446744073709551615]}")) ==
        std::vector<std::vector<double>>{{1e308, -1e308, 18446744073709551616.}});
}

TEST_CASE("Files, and streams that break off") {
  const folder place;
  const auto file = place.path / "rewards.jsonl";
  std::ofstream(file) << "{\"rewards\": [1, 2]}\n{\"rewards\": 3}\n";
  CHECK(refusal_of([&] { read_jsonl(file); }) ==
        file.string() + ":2: expected \"rewards\" to be a list of at least one number");
  std::ofstream(file) << "{\"rewards\": [1, 2]}\n";
  CHECK(rows(read_jsonl<float>(file)) == std::vector<std::vector<float>>{{1, 2}});
  CHECK(rows(read_jsonl(file.string())) == std::vector<std::vector<double>>{{1, 2}});
  const auto none = place.path / "none.jsonl";
  CHECK(refusal_of([&] { read_jsonl(none); }) == none.string() + ": cannot be opened");
  CHECK(begins(refusal_of([&] { read_jsonl(place.path); }), place.path.string() + ": cannot be "));

  struct : std::streambuf {
    int_type underflow() override { throw std::ios_base::failure("gone"); }
  } broken;
  std::istream in(&broken);
  CHECK(refusal_of([&] { read_jsonl(in, "broken"); }) == "broken: cannot be read");
}
