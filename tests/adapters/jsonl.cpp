// SPDX-License-Identifier: MIT
#include <infalign/adapters/jsonl.hpp>
#include <infalign/calibration/calibrate.hpp>
#include <infalign/calibration/prompt_keys.hpp>

#include "catch.hpp"
#include "files.hpp"

#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>
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
std::string error_text(F f) {
  try {
    f();
  } catch (const std::runtime_error& error) {
    return error.what();
  }
  return "no error";
}
template <class S = double>
std::string rejection(const std::string& lines) {
  return error_text([&] { read<S>(lines); });
}
bool begins(const std::string& whole, const std::string& part) {
  return whole.compare(0, part.size(), part) == 0;
}

}  // namespace

TEMPLATE_TEST_CASE("Lines of any length become rows; blank lines and other keys are skipped", "", float, double) {
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

TEST_CASE("A prompt may be a string, another value, or missing") {
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

TEST_CASE("Prompts of a file are found by their text") {
  const auto log = read("{\"prompt\": \"a\", \"rewards\": [1, 2]}\n{\"prompt\": \"b\", \"rewards\": [3, 4, 5, 6]}\n");
  const prompt_keys keys{log.prompts};
  const calibration shape{log.rewards};
  const array<double> u = shape(keys(std::vector<std::string>{"b", "a"}), array<double>{{3.5, 2}});
  CHECK((u == array<double>{{0.25, 0.75}}).all());
  CHECK(error_of([] { prompt_keys{read("{\"rewards\": [1]}\n{\"rewards\": [1]}\n").prompts}; }) ==
        "prompt_keys: expected keys that differ, got \"\" at index 0 and again at index 1");
}

TEST_CASE("An invalid line is rejected with its number") {
  CHECK(begins(rejection("{\"rewards\": [1]}\nnot JSON\n"), "-:2: not JSON: "));
  CHECK(begins(rejection("{\"rewards\": [1]\n"), "-:1: not JSON: "));
  CHECK(begins(rejection("{\"rewards\": [1]} {\"rewards\": [1]}\n"), "-:1: not JSON: "));
  CHECK(rejection("[1, 2]\n") == "-:1: expected an object with the key \"rewards\"");
  CHECK(rejection("{\"prompt\": \"x\"}\n") == "-:1: expected an object with the key \"rewards\"");
  CHECK(rejection("{\"rewards\": 3}\n") == "-:1: expected \"rewards\" to be a list of at least one number");
  CHECK(rejection("{\"rewards\": []}\n") == "-:1: expected \"rewards\" to be a list of at least one number");
  CHECK(rejection("{\"rewards\": {\"0\": 1}}\n") == "-:1: expected \"rewards\" to be a list of at least one number");
  CHECK(rejection("{\"rewards\": [1]}\n\n{\"rewards\": [1, \"2\"]}\n") ==
        "-:3: expected a number at rewards[1], got \"2\"");
  CHECK(rejection("{\"rewards\": [1]}\r\n\r\n{\"rewards\": [[1]]}\r\n") ==
        "-:3: expected a number at rewards[0], got [1]");
  CHECK(rejection("{\"rewards\": [null]}\n") == "-:1: expected a number at rewards[0], got null");
  CHECK(rejection("{\"rewards\": [true]}\n") == "-:1: expected a number at rewards[0], got true");
  CHECK(rejection("{\"rewards\": [NaN]}\n") == "-:1: expected a number at rewards[0], got NaN");
  CHECK(rejection("{\"reward\": 1}\n") == "-:1: expected a \"prompt\" beside the one \"reward\"");
  CHECK(rejection("{\"prompt\": 1, \"reward\": \"high\"}\n") == "-:1: expected a number at reward, got \"high\"");
  CHECK(begins(rejection("{\"rewards\": [1e999]}\n"), "-:1: not JSON: "));
  CHECK(begins(rejection("{\"prompt\": \"\xff\", \"rewards\": [1]}\n"), "-:1: not JSON: "));
  const auto nested = [](std::size_t depth) {
    return "{\"prompt\": " + std::string(depth, '[') + std::string(depth, ']') + ", \"rewards\": [1]}";
  };
  CHECK(read(nested(900)).prompts[0].size() == 1800);
  CHECK(rejection(nested(1000000)) == "-:1: expected at most 1000 lists and objects within each other");
  CHECK(rejection("") == "-: no lines of rewards");
  CHECK(rejection(" \n\r\n\n") == "-: no lines of rewards");
}

TEST_CASE("A number that the scalar type cannot hold is rejected") {
  const auto log = read<float>("{\"rewards\": [3.4028235e+38, -3.4028235e38, 1e-46, 16777217, 0.1]}");
  const float max = std::numeric_limits<float>::max();
  CHECK(rows(log) == std::vector<std::vector<float>>{{max, -max, 0, 16777216, 0.1f}});
  CHECK(rejection<float>("{\"rewards\": [0]}\n{\"rewards\": [1, -1e39]}\n") ==
        "-:2: expected a number that a float can hold at rewards[1], got -1e+39");
  CHECK(rows(read("{\"rewards\": [1e308, -1e308, 18446744073709551615]}")) ==
        std::vector<std::vector<double>>{{1e308, -1e308, 18446744073709551616.}});
}

TEST_CASE("An error names the file or the stream, also if it cannot be read") {
  const temporary_folder folder;
  const auto file = folder / "rewards.jsonl";
  std::ofstream(file) << "{\"rewards\": [1, 2]}\n{\"rewards\": 3}\n";
  CHECK(error_text([&] { read_jsonl(file); }) ==
        file.string() + ":2: expected \"rewards\" to be a list of at least one number");
  std::ofstream(file) << "{\"rewards\": [1, 2]}\n";
  CHECK(rows(read_jsonl<float>(file)) == std::vector<std::vector<float>>{{1, 2}});
  CHECK(rows(read_jsonl(file.string())) == std::vector<std::vector<double>>{{1, 2}});
  const auto none = folder / "none.jsonl";
  CHECK(error_text([&] { read_jsonl(none); }) == none.string() + ": cannot be opened");
  CHECK(begins(error_text([&] { read_jsonl(folder.name); }), folder.name.string() + ": cannot be "));

  struct : std::streambuf {
    int_type underflow() override { throw std::ios_base::failure("gone"); }
  } broken;
  std::istream in(&broken);
  CHECK(error_text([&] { read_jsonl(in, "broken"); }) == "broken: cannot be read");
}

TEMPLATE_TEST_CASE("Unscored rewards are read on request, and Python's infinite numbers always", "", float, double) {
  using S = TestType;
  std::istringstream in(
      "{\"prompt\": \"NaN or \\\"Infinity\\\"\", \"rewards\": [1, null, NaN, 2]}\n"
      "{\"prompt\": \"b\", \"rewards\": [-Infinity, Infinity], \"other\": [NaN, {\"x\": -Infinity}]}\n");
  const auto log = read_jsonl<S>(in, "-", unscored::propagate);
  CHECK(log.prompts == std::vector<std::string>{"NaN or \"Infinity\"", "b"});
  const array<S> first = log.rewards.row(0);
  CHECK(first.size() == 4);
  CHECK(first[0] == 1);
  CHECK(std::isnan(first[1]));
  CHECK(std::isnan(first[2]));
  CHECK(first[3] == 2);
  CHECK(rows(log)[1] == std::vector<S>{-std::numeric_limits<S>::infinity(), std::numeric_limits<S>::infinity()});
  const auto u = calibrate(log.rewards, std::vector<int>{0, 1}, array<S>{{S(1.5), 0}}, mid_rank{}, unscored::propagate);
  CHECK(u[0] == S(0.5));
}

TEST_CASE("One response a line, and a prompt on several lines, are one row") {
  const auto log = read(
      "{\"prompt\": \"a\", \"reward\": 1}\n"
      "{\"prompt\": [\"b\"], \"reward\": 2, \"step\": 7}\n"
      "{\"prompt\": \"a\", \"reward\": 3}\n"
      "{\"rewards\": [9]}\n"
      "{\"prompt\": [\"b\"], \"rewards\": [4, 5]}\n"
      "{\"rewards\": [9]}\n");
  CHECK(log.prompts == std::vector<std::string>{"a", "[\"b\"]", "", ""});
  CHECK(rows(log) == std::vector<std::vector<double>>{{1, 3}, {2, 4, 5}, {9}, {9}});
}

TEST_CASE("An error message is short, one line and ASCII, whatever the line holds") {
  const std::string long_text(3 << 20, 'x');
  for (const std::string& line : std::vector<std::string>{
           "{\"rewards\": [\"" + long_text + "\"]}", "{\"rewards\": [1, \"\xff\xfe\"]}",
           "{\"rewards\": [1, \"\xc3\xa9\xe4\xb8\xad\\n\"]}", long_text, "{\"rewards\": " + long_text}) {
    const auto text = rejection(line);
    CHECK(begins(text, "-:1: "));
    CHECK(text.size() < 300);
    for (const char c : text) CHECK((c >= 32 && c < 127));
  }
}

TEST_CASE("Rewards under another key, lists or one a line") {
  const std::string text =
      "{\"prompt\": \"a\", \"raw\": [1, 2], \"shaped\": 0.5, \"rewards\": [9]}\n"
      "{\"prompt\": \"a\", \"raw\": 3, \"shaped\": [0.25, 0.75], \"reward\": 8}\n";
  const auto read = [&](const std::string& key) {
    std::istringstream in(text);
    return rows(read_jsonl(in, "-", unscored::error, key));
  };
  CHECK(read("raw") == std::vector<std::vector<double>>{{1, 2, 3}});
  CHECK(read("shaped") == std::vector<std::vector<double>>{{0.5, 0.25, 0.75}});
  CHECK(read("rewards") == std::vector<std::vector<double>>{{9, 8}});
  const auto error = [](const std::string& line, const std::string& key) {
    std::istringstream in(line);
    try {
      read_jsonl(in, "-", unscored::error, key);
    } catch (const std::runtime_error& e) {
      return std::string(e.what());
    }
    return std::string("no error");
  };
  CHECK(error("{\"raw\": [1]}", "shaped") == "-:1: expected an object with the key \"shaped\"");
  CHECK(error("{\"raw\": \"x\", \"prompt\": 1}", "raw") == "-:1: expected a number at raw, got \"x\"");
  CHECK(error("{\"raw\": 1}", "raw") == "-:1: expected a \"prompt\" beside the one \"raw\"");
  CHECK(error("{\"raw\": []}", "raw") == "-:1: expected \"raw\" to be a list of at least one number");
  CHECK(error("{\"reward\": 1, \"prompt\": 1}", "raw") == "-:1: expected an object with the key \"raw\"");
}
