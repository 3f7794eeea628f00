// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
// All of CTRL on a small language model: supervised model, reward model, reference rewards, alignment on five rewards,
// and the report. Each stage saves its state in FOLDER, and continues from there if it is started again.
#include "align.hpp"
#include "report.hpp"
#include "resumable.hpp"

#include <CLI/CLI.hpp>

#ifdef __GLIBC__
#include <malloc.h>
#endif

#include <cmath>
#include <fstream>
#include <iostream>

namespace {

using namespace trainer;

struct options {
  fs::path folder;
  int64_t supervised_steps = 1500, reward_steps = 200, steps = 400;
  int64_t prompts = 16, responses = 16;  // of one step
  int64_t references = 64;               // K
  int64_t rank = 4;                      // of the LoRA matrices
  double learning_rate = 1e-3, kl = 0.5;
  std::vector<std::uint64_t> seeds{1, 2, 3};
  std::vector<std::string> goals;  // all if none is named
  int points = 3;
  bool report_only = false;
};

const auto device = torch::cuda::is_available() ? torch::kCUDA : torch::kCPU;

/// Reads a file of tokens as a tensor.
Tensor read_tokens(const fs::path& file, int64_t columns) {
  const infalign::npy_array<std::int64_t> values(file);
  return torch::from_blob(const_cast<std::int64_t*>(values.data()), {values.size() / columns, columns}, torch::kLong)
      .to(device, torch::kLong, false, true);
}

/// Random rows of a tensor.
Tensor random_rows(int64_t rows, int64_t count) {
  return torch::randint(rows, {count}, torch::kLong).to(device);
}

int64_t count_lines(const fs::path& file) {
  std::ifstream in(file);
  return std::count(std::istreambuf_iterator<char>(in), {}, '\n');
}

/// The KLs at which the policy of an alignment run is measured. The last is the one that it was trained for.
std::vector<double> budgets(double kl, int points) {
  std::vector<double> result;
  for (int i = points - 1; i >= 0; --i) result.push_back(std::ldexp(kl, -i));
  return result;
}

class run {
 public:
  explicit run(const options& o) : o_(o), size_{.vocabulary = count_lines(o.folder / "pieces.txt")} {}

  void everything() {
    supervise();
    learn_reward();
    sample_references();
    const auto aims = goals(infalign::npy_table<float>(table_), o_.kl);
    for (const auto seed : o_.seeds)
      for (const auto& aim : aims)
        if (o_.goals.empty() || std::count(o_.goals.begin(), o_.goals.end(), aim.name) > 0) align(aim, seed);
  }

 private:
  fs::path in(const std::string& name) const { return o_.folder / name; }

  /// Trains the supervised model, a language model of the dialogues. It is the reference policy.
  void supervise() {
    const auto prompts = read_tokens(in("training.turns.prompts.npy"), prompt_length),
               responses = read_tokens(in("training.turns.responses.npy"), response_length);
    const auto text = torch::cat({prompts, responses}, 1);
    const auto loss_of = [this](const Tensor& rows) {
      memory past;
      const auto target = rows.slice(1, 1), read = reference_->read(rows.slice(1, 0, -1), past);
      return torch::nn::functional::cross_entropy(
          reference_->next(read).flatten(0, 1), target.flatten(),
          torch::nn::functional::CrossEntropyFuncOptions().ignore_index(padding));
    };
    torch::manual_seed(1);
    reference_ = gpt(size_);
    reference_->to(device);
    reference_->train();
    std::vector<double> numbers;
    train({"supervised", in("supervised.pt"), o_.supervised_steps, 2e-3}, *reference_, numbers, [&](int64_t, auto&) {
      const auto loss = loss_of(text.index_select(0, random_rows(text.size(0), 32)));
      loss.backward();
      return "loss " + std::to_string(loss.item<double>());
    });
    reference_->eval();
    const torch::NoGradGuard no_gradient;
    const auto held_out = torch::cat({read_tokens(in("held_out.turns.prompts.npy"), prompt_length),
                                      read_tokens(in("held_out.turns.responses.npy"), response_length)},
                                     1);
    std::cout << "supervised model: held-out loss " << loss_of(held_out.slice(0, 0, 512)).item<double>()
              << " nats a token\n";
  }

  /// Trains the reward model (Bradley and Terry): P(chosen above rejected) = σ(r(chosen) − r(rejected)).
  void learn_reward() {
    struct comparisons {
      Tensor prompts, chosen, rejected;
    };
    const auto read = [this](const std::string& part) -> comparisons {
      return {read_tokens(in(part + ".comparisons.prompts.npy"), prompt_length),
              read_tokens(in(part + ".comparisons.chosen.npy"), response_length),
              read_tokens(in(part + ".comparisons.rejected.npy"), response_length)};
    };
    const auto difference = [this](const comparisons& c) {
      const auto both = torch::stack({c.chosen, c.rejected}, 1).flatten(0, 1);
      return torch::matmul(reward_->forward(c.prompts, both).view({-1, 2}), torch::tensor({1.0f, -1.0f}).to(device));
    };
    const auto training = read("training"), held_out = read("held_out");
    torch::manual_seed(2);
    reward_ = reward_model(size_);
    reward_->to(device);
    move_weights(reward_->trunk, reference_, 0);  // it starts from the supervised model
    reward_->train();
    std::vector<double> numbers;
    train({"reward model", in("reward.pt"), o_.reward_steps, 5e-4}, *reward_, numbers, [&](int64_t, auto&) {
      const auto rows = random_rows(training.chosen.size(0), 32);
      const comparisons some{training.prompts.index_select(0, rows), training.chosen.index_select(0, rows),
                             training.rejected.index_select(0, rows)};
      const auto loss = -torch::log_sigmoid(difference(some)).mean();
      loss.backward();
      return "loss " + std::to_string(loss.item<double>());
    });
    reward_->eval();
    score_ = [this](const Tensor& prompts, const Tensor& responses) { return reward_->forward(prompts, responses); };
    const torch::NoGradGuard no_gradient;
    const auto right = [&](const comparisons& all) {
      return (difference(all) > 0).to(torch::kFloat).mean().item<double>();
    };
    std::cout << "reward model: agrees with people on " << right(held_out) << " of the held-out comparisons, on "
              << right(training) << " of those it learnt\n";
  }

  /// Samples K rewards of the reference policy for each prompt. The table has several files, so that this can be
  /// stopped too. Rewards of held-out prompts never calibrate.
  void sample_references() {
    prompts_ = read_tokens(in("training.prompts.npy"), prompt_length);
    held_out_ = read_tokens(in("held_out.prompts.npy"), prompt_length);
    constexpr int64_t rows = 256;
    progress line("reference rewards", prompts_.size(0));
    for (int64_t first = 0; first < prompts_.size(0); first += rows) {
      const auto last = std::min(first + rows, prompts_.size(0));
      const auto file = in("reference." + std::to_string(first) + ".npy");
      write_once(file, prompts_.slice(0, first, last), 1000 + static_cast<std::uint64_t>(first));
      table_.push_back(file);
      line.at(last);
    }
    write_once(in("held_out.reference.npy"), held_out_, 999);
  }

  void write_once(const fs::path& file, const Tensor& prompts, std::uint64_t seed) {
    if (fs::exists(file)) return;
    torch::manual_seed(seed);
    infalign::write_npy(file, measure(reference_, nullptr, score_, prompts, o_.references).rewards);
    if (stop_requested) throw interrupted();
  }

  /// Trains on one reward, with a KL weight that keeps the KL at its budget. Then measures the policy.
  void align(const goal& aim, std::uint64_t seed) {
    const auto name = aim.name + "." + std::to_string(seed);
    torch::manual_seed(4);
    gpt policy(size_);
    policy->to(device);
    policy->adapt(o_.rank);
    policy->eval();  // without dropout, so that the sampled policy is the trained one
    move_weights(policy, reference_, 0);
    infalign::adaptive_kl_per_sequence control{.beta = aim.beta, .target = o_.kl, .horizon = 2000};
    const auto work = [&](int64_t, std::vector<double>& numbers) {
      const auto chosen = random_rows(prompts_.size(0), o_.prompts), cpu = chosen.cpu();
      const std::vector<int64_t> index(cpu.data_ptr<int64_t>(), cpu.data_ptr<int64_t>() + cpu.size(0));
      control.beta = numbers[0];
      const auto metrics = align_step(policy, reference_, score_, aim, control.beta, index,
                                      prompts_.index_select(0, chosen), o_.responses);
      control.update(metrics);
      numbers[0] = control.beta;
      return "reward " + std::to_string(metrics.reward) + "  KL " + std::to_string(metrics.kl) + "  beta " +
             std::to_string(control.beta);
    };
    std::vector<double> numbers{control.beta};
    train({name, in("policy." + name + ".pt"), o_.steps, o_.learning_rate}, *policy, numbers, work);
    const auto all = budgets(o_.kl, o_.points);
    for (auto kl = all.rbegin(); kl != all.rend(); ++kl) {
      const auto prefix = measured_prefix(o_.folder, aim.name, seed, *kl);
      if (fs::exists(prefix + "rewards.npy")) continue;
      int64_t step = 0;
      load(in("policy." + name + ".pt"), *policy, nullptr, step, numbers);  // the state at the end of the training
      const auto m = measure_at(*kl, policy);
      infalign::write_npy(prefix + "now.npy", m.log_probabilities);
      infalign::write_npy(prefix + "before.npy", m.reference_log_probabilities);
      infalign::write_npy(prefix + "rewards.npy", m.rewards);
    }
  }

  /// Measures a policy at this KL on the held-out prompts, to 1 % if six rounds suffice. So policies are compared at
  /// one KL, even if the controller left them at different ones. The policy is moved along the line of weights from the
  /// reference through it; the KL grows about as the square of the distance.
  measured measure_at(double kl, gpt& policy) {
    for (int round = 0;; ++round) {
      torch::manual_seed(5);
      auto m = measure(policy, &reference_, score_, held_out_, 32);
      const double now = infalign::kl_divergence(m.log_probabilities, m.reference_log_probabilities).mean;
      if (std::abs(now - kl) < 0.01 * kl || round == 5) return m;
      move_weights(policy, reference_, std::sqrt(kl / std::max(now, 0.01 * kl)));
    }
  }

  options o_;
  gpt_size size_;
  gpt reference_ = nullptr;
  reward_model reward_ = nullptr;
  scorer score_;
  Tensor prompts_, held_out_;
  std::vector<fs::path> table_;  // of the reference rewards
};

}  // namespace

int main(int count, char** arguments) {
  options o;
  CLI::App app{"Aligns a small language model for best-of-4 and worst-of-4, on what `prepare` wrote to FOLDER."};
  app.add_option("FOLDER", o.folder)->required()->check(CLI::ExistingDirectory);
  app.add_option("--supervised-steps", o.supervised_steps)->capture_default_str();
  app.add_option("--reward-steps", o.reward_steps)->capture_default_str();
  app.add_option("--steps", o.steps, "of alignment")->capture_default_str();
  app.add_option("--prompts", o.prompts, "of a step")->capture_default_str();
  app.add_option("--responses", o.responses, "to a prompt, in a step")->capture_default_str();
  app.add_option("--references", o.references, "to a prompt")->capture_default_str();
  app.add_option("--rank", o.rank, "of the corrections to linear maps that alignment learns")->capture_default_str();
  app.add_option("--learning-rate", o.learning_rate, "of alignment")->capture_default_str();
  app.add_option("--kl", o.kl, "budget, nats per response")->capture_default_str();
  app.add_option("--points", o.points, "of a curve: KLs to measure at, the budget and its halves")
      ->capture_default_str()
      ->check(CLI::Range(1, 8));
  app.add_option("--seeds", o.seeds, "of the alignment runs")->capture_default_str();
  app.add_option("--goals", o.goals, "only these: raw, z-score, calibrated, best-of-4, worst-of-4");
  app.add_flag("--report", o.report_only, "only report on what is there");
  CLI11_PARSE(app, count, arguments);
  std::signal(SIGINT, [](int) { stop_requested = 1; });
  torch::set_num_threads(1);
#ifdef __GLIBC__
  mallopt(M_MMAP_THRESHOLD, 1 << 30);  // reuses the memory of one operation for the next: a third less time
  mallopt(M_TRIM_THRESHOLD, 1 << 30);
#endif
  try {
    if (!o.report_only) run(o).everything();
    report(o.folder, o.seeds, budgets(o.kl, o.points));
  } catch (const interrupted& stop) {
    std::cerr << '\n' << stop.what() << '\n';
    return 130;
  } catch (const std::exception& error) {
    std::cerr << "align: " << error.what() << '\n';
    return 1;
  }
}
