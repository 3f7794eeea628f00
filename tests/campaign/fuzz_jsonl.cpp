// SPDX-License-Identifier: MIT
// Bytes as a log of rewards: an error with a good message, or rows that are as documented. What is read with unscored::error is
// read with unscored::propagate too, as the same rows.
#include <infalign/adapters/jsonl.hpp>

#include "fuzz.hpp"

#include <optional>
#include <sstream>
#include <string>

using namespace infalign;

namespace {

template <class S>
std::optional<jsonl_rewards<S>> read(const std::string& text, unscored on_unscored) {
  std::istringstream in(text);
  try {
    auto log = read_jsonl<S>(in, "log", on_unscored);
    fuzz::require(log.rewards.rows() == std::ssize(log.prompts), "there is a prompt for each row");
    fuzz::require(log.rewards.rows() > 0, "there are rows");
    for (Eigen::Index p = 0; p < log.rewards.rows(); ++p) {
      fuzz::require(log.rewards.row(p).size() > 0, "a row has rewards");
      for (const S r : log.rewards.row(p))
        fuzz::require(on_unscored == unscored::propagate || !detail::is_nan(r),
                      "NaN is an error unless it is propagated");
    }
    return log;
  } catch (const std::runtime_error& error) {
    fuzz::require_message(error);
    return {};
  }
}

template <class S>
void compare(const std::string& text) {
  const auto strict = read<S>(text, unscored::error), all = read<S>(text, unscored::propagate);
  if (!strict) return;
  fuzz::require(all.has_value(), "what is read strictly is read with NaN propagated");
  fuzz::require(all->prompts == strict->prompts, "prompts are the same");
  for (Eigen::Index p = 0; p < all->rewards.rows(); ++p)
    fuzz::require((all->rewards.row(p) == strict->rewards.row(p)).all(), "rewards are the same");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  compare<float>(text);
  compare<double>(text);
  // Again inside a line of a log.
  compare<double>("{\"prompt\": \"a\", \"rewards\": [1, " + text + "]}\n{\"prompt\": \"a\", \"reward\": 2}\n");
  return 0;
}
