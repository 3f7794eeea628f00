// SPDX-License-Identifier: MIT
// The trainer of examples/libtorch, on a model so small that a thousand steps take seconds.
#include "align.hpp"
#include "resumable.hpp"

#undef CHECK  // Torch's; Catch2's is meant below
#include "catch.hpp"

#include <fstream>
#include <limits>

namespace {

using namespace trainer;

const gpt_size small{.vocabulary = 12, .width = 16, .layers = 2, .heads = 2, .dropout = 0};

gpt model_of(std::uint64_t seed) {
  torch::manual_seed(seed);
  gpt model(small);
  model->eval();
  const torch::NoGradGuard no_gradient;
  for (auto& p : model->parameters())
    if (p.dim() == 2) p.normal_(0, 0.3);  // far from uniform
  return model;
}

/// Prompts of 32, 7 and 1 tokens, padded on the left.
Tensor some_prompts() {
  torch::manual_seed(1);
  auto prompts = torch::randint(3, small.vocabulary, {3, prompt_length}, torch::kLong);
  prompts[1].slice(0, 0, prompt_length - 7).fill_(padding);
  prompts[2].slice(0, 0, prompt_length - 1).fill_(padding);
  return prompts;
}

double resident_mib() {
  std::ifstream statm("/proc/self/statm");
  double pages = 0, resident = 0;
  statm >> pages >> resident;
  return resident * 4096 / (1 << 20);
}

/// The share of token 5.
Tensor fives(const Tensor&, const Tensor& responses) {
  return (responses == 5).to(torch::kFloat).mean(1);
}

}  // namespace

TEST_CASE("a response is read token by token as it is read at once") {
  auto model = model_of(3);
  const auto prompts = some_prompts();
  const auto responses = sample(model, prompts, 4, response_length);
  const auto at_once = log_probabilities(model, prompts, responses);
  // Each alone, one token at a time, and with the prompt read anew.
  for (int64_t i = 0; i < responses.size(0); ++i) {
    memory past;
    auto read = model->read(prompts.slice(0, i / 4, i / 4 + 1), past).slice(1, -1);
    for (int64_t t = 0; t < response_length && responses[i][t].item<int64_t>() != padding; ++t) {
      const auto token = responses.slice(0, i, i + 1).slice(1, t, t + 1);
      const auto log_p = torch::log_softmax(model->next(read), -1).flatten()[token.item<int64_t>()].item<float>();
      REQUIRE(at_once[i][t].item<float>() == near(log_p, 1e-4));
      read = model->read(token, past);
    }
  }
  CHECK((responses == padding).equal(at_once == 0));
}

TEST_CASE("what is sampled has the frequencies that the model says") {
  auto model = model_of(4);
  const auto prompt = some_prompts().slice(0, 1, 2);
  memory past;
  const auto p = torch::softmax(model->next(model->read(prompt, past).slice(1, -1)), -1).flatten();
  torch::manual_seed(5);
  constexpr int64_t n = 20000;
  const auto first = sample(model, prompt, n, 1).flatten();
  CHECK(p[padding].item<float>() == 0);
  for (int64_t token = 0; token < small.vocabulary; ++token) {
    const double expected = p[token].item<float>(), error = std::sqrt(expected * (1 - expected) / n);
    const double share = static_cast<double>((first == token).sum().item<int64_t>()) / n;
    CHECK(std::abs(share - expected) <= 4.5 * error);
  }
}

TEST_CASE("a response of no tokens is scored, and has no log-probability") {
  torch::manual_seed(6);
  reward_model reward(small);
  reward->eval();
  auto responses = torch::full({3, response_length}, padding, torch::kLong);
  responses[1][0] = end_of_text;
  const auto scores = reward->forward(some_prompts(), responses);
  CHECK(torch::isfinite(scores).all().item<bool>());
  auto model = model_of(7);
  const auto log_p = log_probabilities(model, some_prompts(), responses);
  CHECK(log_p[0].abs().sum().item<float>() == 0);
  CHECK(log_p[1][0].item<float>() < 0);
}

TEST_CASE(
    "a thousand steps: rewards rise as far as the KL allows, memory does not, and what has no score is left out") {
  const fs::path folder = fs::temp_directory_path() / ("infalign_trainer_" + std::to_string(getpid()));
  fs::create_directories(folder);
  const auto prompts = some_prompts();
  auto reference = model_of(8);
  const auto before = measure(reference, nullptr, fives, prompts, 512);
  infalign::write_npy(folder / "reference.npy", before.rewards.leftCols(64).eval());
  const scorer score = [](const Tensor& prompt, const Tensor& responses) {  // every seventh cannot be told
    auto rewards = fives(prompt, responses);
    for (int64_t i = 0; i < rewards.size(0); i += 7) rewards[i] = std::numeric_limits<float>::quiet_NaN();
    return rewards;
  };
  for (const auto& aim : goals(infalign::npy_table<float>(folder / "reference.npy"), 0.5)) {
    CAPTURE(aim.name);
    auto policy = model_of(8);
    torch::optim::Adam optimizer(policy->parameters(), 1e-3);
    infalign::adaptive_kl_per_sequence control{.beta = aim.beta, .target = 0.5, .horizon = 240};
    const int steps = aim.name == "best-of-4" ? 1000 : 100;
    double early = 0;
    for (int step = 0; step < steps; ++step) {
      torch::manual_seed(static_cast<std::uint64_t>(step));
      optimizer.zero_grad();
      const auto metrics = align_step(policy, reference, score, aim, control.beta, {0, 1, 2}, prompts, 8);
      REQUIRE(metrics.sequences == 20);  // of 24, four of which are NaN
      optimizer.step();
      control.update(metrics);
      if (step == 200) early = resident_mib();
    }
    if (steps == 1000) CHECK(resident_mib() < early + 8);
    const auto after = measure(policy, &reference, fives, prompts, 512);
    const auto kl = infalign::kl_divergence(after.log_probabilities, after.reference_log_probabilities);
    CHECK(kl.mean > 0.1);
    CHECK(kl.mean < 1.5);
    // The spread of a response's reward is that of its mean over 1,536, times 39.
    const auto& r = before.rewards;
    const double error = std::sqrt((r - r.mean()).square().mean() / static_cast<float>(r.size()));
    CHECK(after.rewards.mean() > r.mean() + 10 * error);
  }
  fs::remove_all(folder);
}

TEST_CASE("an adapted model says what it said until it learns, learns a small part, and can be moved back") {
  auto reference = model_of(10), policy = model_of(10);
  const auto prompts = some_prompts(), responses = sample(reference, prompts, 2, response_length);
  const auto before = log_probabilities(reference, prompts, responses);
  policy->adapt(2);
  move_weights(policy, reference, 0);
  CHECK(log_probabilities(policy, prompts, responses).equal(before));

  std::vector<Tensor> learnt;
  for (const auto& parameter : policy->named_parameters()) {
    const bool correction = parameter.key().ends_with(".down") || parameter.key().ends_with(".up");
    CHECK(parameter.value().requires_grad() == (correction || parameter.value().dim() == 1));
    if (parameter.value().requires_grad()) learnt.push_back(parameter.value());
  }
  torch::optim::Adam optimizer(learnt, 1e-2);
  for (int step = 0; step < 20; ++step) {
    optimizer.zero_grad();
    (-log_probabilities(policy, prompts, responses).sum()).backward();
    optimizer.step();
  }
  const auto gained = [&] { return (log_probabilities(policy, prompts, responses) - before).sum().item<float>(); };
  const auto all = gained();
  move_weights(policy, reference, 0.5);
  const auto half = gained();
  move_weights(policy, reference, 0);
  CHECK(all > 1);
  CHECK(half > 0);
  CHECK(half < all);
  CHECK(log_probabilities(policy, prompts, responses).equal(before));
}

TEST_CASE("a stage that is stopped goes on to the same numbers") {
  const fs::path folder = fs::temp_directory_path() / ("infalign_resume_" + std::to_string(getpid()));
  fs::create_directories(folder);
  const auto prompts = some_prompts();
  const auto run = [&](const std::string& file, int64_t stop_at) {
    auto model = model_of(9);
    std::vector<double> numbers{0};
    train({"a stage", folder / file, 12, 1e-2}, *model, numbers, [&](int64_t step, std::vector<double>& saved) {
      const auto loss = log_probabilities(model, prompts, sample(model, prompts, 2, response_length)).mean();
      loss.backward();
      saved[0] += loss.item<double>();
      if (step == stop_at) stop_requested = 1;
      return std::string();
    });
    return std::pair{model, numbers};
  };
  const auto [whole, expected] = run("whole.pt", -1);
  CHECK_THROWS_AS(run("parts.pt", 4), interrupted);
  stop_requested = 0;
  CHECK_THROWS_AS(run("parts.pt", 9), interrupted);
  stop_requested = 0;
  const auto [parts, numbers] = run("parts.pt", -1);
  CHECK(numbers == expected);
  const auto a = whole->parameters(), b = parts->parameters();
  for (std::size_t i = 0; i < a.size(); ++i) CHECK(a[i].equal(b[i]));
  fs::remove_all(folder);
}
