// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
// All of CTRL on a small language model: reference policy, prompts, reference rewards, alignment on each reward, and the
// report. Each stage saves its state in FOLDER, and continues from there if it is started again.
#include "align.hpp"
#include "report.hpp"
#include "resumable.hpp"
#include "score.hpp"
#include "texts.hpp"

#include <CLI/CLI.hpp>

#ifdef __GLIBC__
#include <malloc.h>
#endif

#include <cmath>
#include <iostream>
#include <optional>

namespace {

using namespace trainer;

struct options {
  fs::path folder, model, tokenizer, texts, lexicon;
  std::string command;
  std::size_t training_prompts = 1024, held_out_prompts = 400;
  int64_t supervised_steps = 800, steps = 220;
  int64_t prompts = 16, responses = 64;  // of one step
  int64_t references = 64;               // K
  int64_t rank = 8;                      // of the LoRA matrices
  double learning_rate = 2e-3, kl = 0.5;
  std::vector<std::uint64_t> seeds{1, 2, 3};
  std::vector<std::string> goals;  // all if none is named
  int points = 3;
  std::vector<int> part{0, 1};
  bool prepare_only = false, report_only = false;
};

const auto device = torch::cuda::is_available() ? torch::kCUDA : torch::kCPU;

/// Prompts as a tensor, padded on the left.
Tensor as_tensor(const std::vector<prompt_text>& prompts) {
  const auto result = torch::full({static_cast<int64_t>(prompts.size()), prompt_length}, padding, torch::kLong);
  for (std::size_t p = 0; p < prompts.size(); ++p) {
    const auto& ids = prompts[p].tokens;
    std::copy(ids.begin(), ids.end(),
              result[static_cast<int64_t>(p)].data_ptr<int64_t>() + prompt_length - static_cast<int64_t>(ids.size()));
  }
  return result.to(device);
}

/// Random rows of a tensor.
Tensor random_rows(int64_t rows, int64_t count) {
  return torch::randint(rows, {count}, torch::kLong).to(device);
}

/// The KLs at which the policy of an alignment run is measured. The last is the one that it was trained for.
std::vector<double> budgets(double kl, int points) {
  std::vector<double> result;
  for (int i = points - 1; i >= 0; --i) result.push_back(std::ldexp(kl, -i));
  return result;
}

class run {
 public:
  explicit run(const options& o) : o_(o) {}

  void everything() {
    if (o_.model.empty()) make_up_what_is_missing();
    reference_ = read_llama(o_.model);
    reference_->to(device);
    reference_->eval();
    tokens_.emplace(o_.tokenizer, reference_->size.vocabulary);
    const auto of_text = o_.command.empty() ? score_by_lexicon(o_.lexicon) : score_by_command(o_.command, o_.folder);
    const auto sets = prompts_of(read_texts(o_.texts), *tokens_, o_.training_prompts, o_.held_out_prompts);
    prompts_ = as_tensor(sets.training);
    held_out_ = as_tensor(sets.held_out);
    score_ = [this, of_text](const Tensor& prompts, const Tensor& responses) {
      auto shown = decoded(prompts.repeat_interleave(responses.size(0) / prompts.size(0), 0));
      auto rewards = of_text(shown, decoded(responses));
      return torch::tensor(rewards).to(device);
    };
    std::cout << sets.training.size() << " training prompts, " << sets.held_out.size() << " held-out prompts\n";
    sample_references(sets);
    if (o_.prepare_only) return;

    const auto aims = goals(reference_rewards(), o_.kl);
    int number = 0;
    for (const auto seed : o_.seeds)
      for (const auto& aim : aims)
        if (o_.goals.empty() || std::count(o_.goals.begin(), o_.goals.end(), aim.name) > 0)
          if (number++ % o_.part[1] == o_.part[0]) align(aim, seed);
  }

 private:
  fs::path in(const std::string& name) const { return o_.folder / name; }

  std::vector<std::string> decoded(const Tensor& ids) const {
    const auto cpu = ids.cpu().contiguous();
    std::vector<std::string> result;
    for (int64_t i = 0; i < cpu.size(0); ++i)
      result.push_back(tokens_->decode(cpu.data_ptr<int64_t>() + i * cpu.size(1), cpu.size(1)));
    return result;
  }

  /// Without files: makes up texts and a lexicon, learns a tokenizer, and trains a language model on the texts. Then
  /// continues from these files as from any others.
  void make_up_what_is_missing() {
    o_.model = in("model.bin");
    o_.tokenizer = in("tokenizer.bin");
    o_.texts = in("texts.json");
    o_.lexicon = in("lexicon.txt");
    if (fs::exists(o_.model)) return;
    const auto world = make_up(3000);
    std::ofstream(o_.lexicon) << world.lexicon;
    write_json(o_.texts, world.texts);
    const tokenizer tokens(world.texts, 480);
    tokens.write(o_.tokenizer);

    constexpr int64_t length = prompt_length + response_length;
    auto text = torch::full({static_cast<int64_t>(world.texts.size()), length}, padding, torch::kLong);
    for (int64_t i = 0; i < text.size(0); ++i) {
      auto ids = tokens.encode(world.texts[static_cast<std::size_t>(i)]);
      ids.push_back(boundary);
      std::copy_n(ids.begin(), std::min<std::size_t>(ids.size(), length), text[i].data_ptr<int64_t>());
    }
    text = text.to(device);
    torch::manual_seed(1);
    llama model(llama_size{.vocabulary = tokens.size()});
    model->to(device);
    state s{*model};
    const auto first = torch::full({32, 1}, boundary, text.options());
    train({"language model", in("model.pt"), o_.supervised_steps, 4e-3}, s, [&](auto&) {
      const auto rows = text.index_select(0, random_rows(text.size(0), 32));
      const auto loss = -log_probabilities(model, first, rows).sum() / (rows != padding).sum();
      loss.backward();
      return "loss " + std::to_string(loss.item<double>());
    });
    write_llama(in("model.part"), model);
    fs::rename(in("model.part"), o_.model);
  }

  /// Samples K rewards of the reference policy for each prompt. The table has several files, so that this can be
  /// stopped too. Rewards of held-out prompts never calibrate.
  void sample_references(const prompt_sets& sets) {
    constexpr int64_t rows = 256;
    progress line("reference rewards", prompts_.size(0));
    for (int64_t first = 0; first < prompts_.size(0); first += rows) {
      const auto last = std::min(first + rows, prompts_.size(0));
      const auto file = in("reference." + std::to_string(first) + ".npy");
      if (!fs::exists(file)) {
        torch::manual_seed(1000 + static_cast<std::uint64_t>(first));
        infalign::write_npy(
            file, measure(reference_, nullptr, score_, prompts_.slice(0, first, last), o_.references).rewards);
        if (stop_requested) throw interrupted();
      }
      table_.push_back(file);
      line.at(last);
    }
    if (fs::exists(in("held_out.reference.npy"))) return;
    torch::manual_seed(999);
    const auto m = measure(reference_, nullptr, score_, held_out_, std::max<int64_t>(64, o_.references));
    write_samples(in("held_out.samples.json"), m, sets.held_out);
    infalign::write_npy(in("held_out.reference.npy"), m.rewards);
  }

  matrix<float> reference_rewards() const {
    const infalign::npy_table<float> table(table_);
    if (table.rows() != prompts_.size(0) || table.row(0).size() != o_.references)
      throw std::invalid_argument(o_.folder.string() + " has reference rewards from a run with other options");
    matrix<float> result(table.rows(), o_.references);
    for (Eigen::Index p = 0; p < table.rows(); ++p) result.row(p) = table.row(p).transpose();
    return result;
  }

  /// The first four responses to the first 20 prompts, for the report.
  void write_samples(const fs::path& file, const measured& m, const std::vector<prompt_text>& prompts) const {
    nlohmann::json all = nlohmann::json::array();
    const auto M = m.rewards.cols();
    for (int64_t p = 0; p < std::min<int64_t>(20, m.rewards.rows()); ++p)
      all.push_back(
          {{"prompt", p < static_cast<int64_t>(prompts.size()) ? prompts[static_cast<std::size_t>(p)].text : ""},
           {"responses", decoded(m.responses.slice(0, p * M, p * M + std::min<int64_t>(4, M)))}});
    write_json(file, all);
  }

  /// Trains on one reward, with a KL weight that keeps the KL at its budget. Then measures the average of the policies of
  /// the last steps, which has less noise than the last.
  void align(const goal& aim, std::uint64_t seed) {
    const auto name = aim.name + "." + std::to_string(seed);
    const auto fresh = [&] {
      torch::manual_seed(4 + seed);
      llama model(reference_->size);
      model->to(device);
      if (o_.rank > 0) model->adapt(o_.rank);
      move_weights(model, reference_, 0);
      return model;
    };
    llama policy = fresh(), average = fresh();
    const double n = static_cast<double>(o_.prompts * o_.responses);
    infalign::adaptive_kl_per_sequence control{.beta = aim.beta, .target = o_.kl, .horizon = 5 * n};
    state s{*policy, average.ptr().get(), {control.beta}};
    train({name, in("policy." + name + ".pt"), o_.steps, o_.learning_rate}, s, [&](std::vector<double>& numbers) {
      const auto chosen = random_rows(prompts_.size(0), o_.prompts), cpu = chosen.cpu();
      const std::vector<int64_t> index(cpu.data_ptr<int64_t>(), cpu.data_ptr<int64_t>() + cpu.size(0));
      control.beta = numbers[0];
      const auto metrics = align_step(policy, reference_, score_, aim, control.beta, index,
                                      prompts_.index_select(0, chosen), o_.responses);
      control.update(metrics);
      numbers[0] = control.beta;
      return "reward " + std::to_string(metrics.reward) + "  KL " + std::to_string(metrics.kl) + "  beta " +
             std::to_string(control.beta);
    });
    const auto all = budgets(o_.kl, o_.points);
    for (auto kl = all.rbegin(); kl != all.rend(); ++kl) {
      const auto prefix = measured_prefix(o_.folder, aim.name, seed, *kl);
      if (fs::exists(prefix + "rewards.npy")) continue;
      load(in("policy." + name + ".pt"), s);  // the state at the end of the training
      const auto m = measure_at(*kl, average, *kl == o_.kl ? 32 : 16);
      write_samples(prefix + "samples.json", m, {});
      infalign::write_npy(prefix + "kl.npy", m.kl);
      infalign::write_npy(prefix + "rewards.npy", m.rewards);
      if (stop_requested) throw interrupted();
    }
  }

  /// Measures a policy at this KL on the held-out prompts. So policies are compared at one KL, even if the controller
  /// left them at different ones. The policy is moved along the line of weights from the reference through it; the KL
  /// grows about as the square of the distance.
  measured measure_at(double kl, llama& policy, int64_t responses) {
    for (int round = 0; round < 8; ++round) {
      torch::manual_seed(5);
      const double now = measure(policy, &reference_, {}, held_out_, 24).kl.mean();
      if (std::abs(now - kl) < 0.005 * kl) break;
      move_weights(policy, reference_, std::clamp(std::sqrt(kl / std::max(now, 1e-6)), 0.1, 2.0));
    }
    torch::manual_seed(6);
    return measure(policy, &reference_, score_, held_out_, responses);
  }

  options o_;
  std::optional<tokenizer> tokens_;
  llama reference_ = nullptr;
  scorer score_;
  Tensor prompts_, held_out_;
  std::vector<fs::path> table_;  // of the reference rewards
};

}  // namespace

int main(int count, char** arguments) {
  options o;
  CLI::App app{
      "Aligns a small language model for best-of-4 and worst-of-4, and writes to FOLDER. Without a model, it makes one "
      "up, and a world to train it on."};
  app.add_option("FOLDER", o.folder)->required();
  auto* const model =
      app.add_option("--model", o.model, "a model in the first format of llama2.c")->check(CLI::ExistingFile);
  auto* const tokens = app.add_option("--tokenizer", o.tokenizer, "its tokenizer, in the format of llama2.c")
                           ->check(CLI::ExistingFile)
                           ->needs(model);
  auto* const texts = app.add_option("--texts", o.texts, "a JSON array of texts, whose beginnings are the prompts")
                          ->check(CLI::ExistingFile)
                          ->needs(model);
  model->needs(tokens, texts);
  auto* const words =
      app.add_option("--lexicon", o.lexicon, "reward: VADER with this lexicon")->check(CLI::ExistingFile)->needs(model);
  app.add_option("--score", o.command,
                 "reward: a command that reads lines of a prompt, a tab and a response, and writes a number for each")
      ->excludes(words);
  app.add_option("--training-prompts", o.training_prompts, "at most")->capture_default_str();
  app.add_option("--held-out-prompts", o.held_out_prompts, "at most")->capture_default_str();
  app.add_option("--supervised-steps", o.supervised_steps, "of the model that it makes up")->capture_default_str();
  app.add_option("--steps", o.steps, "of alignment")->capture_default_str();
  app.add_option("--prompts", o.prompts, "of a step")->capture_default_str();
  app.add_option("--responses", o.responses, "to a prompt, in a step")->capture_default_str();
  app.add_option("--references", o.references, "to a prompt (K)")->capture_default_str()->check(CLI::Range(4, 4096));
  app.add_option("--rank", o.rank, "of the corrections to linear maps that alignment learns; 0: it learns all weights")
      ->capture_default_str()
      ->check(CLI::NonNegativeNumber);
  app.add_option("--learning-rate", o.learning_rate, "of alignment")->capture_default_str();
  app.add_option("--kl", o.kl, "budget, nats per response")->capture_default_str();
  app.add_option("--points", o.points, "of a curve: KLs to measure at, the budget and its halves")
      ->capture_default_str()
      ->check(CLI::Range(1, 8));
  app.add_option("--seeds", o.seeds, "of the alignment runs")->capture_default_str();
  app.add_option(
      "--goals", o.goals,
      "only these: raw, z-score, calibrated, best-of-4, worst-of-4, and the last two with -prior, -K8, -K8-prior");
  app.add_option("--part", o.part, "I N: of the alignment runs, only the I-th, the (I + N)-th, ..., from 0")
      ->expected(2);
  app.add_flag("--prepare", o.prepare_only, "stop before the alignment");
  app.add_flag("--report", o.report_only, "only report on what is there");
  CLI11_PARSE(app, count, arguments);
  std::signal(SIGINT, [](int) { stop_requested = 1; });
  torch::set_num_threads(1);
#ifdef __GLIBC__
  mallopt(M_MMAP_THRESHOLD, 1 << 30);  // reuses the memory of one operation for the next: a third less time
  mallopt(M_TRIM_THRESHOLD, 1 << 30);
#endif
  try {
    if (!o.model.empty() && o.lexicon.empty() && o.command.empty())
      throw std::invalid_argument("--model needs a reward: --lexicon or --score");
    if (o.part[1] < 1 || o.part[0] < 0 || o.part[0] >= o.part[1]) throw std::invalid_argument("--part I N: 0 <= I < N");
    fs::create_directories(o.folder);
    if (!o.report_only) run(o).everything();
    if (!o.prepare_only && o.part[1] == 1) report(o.folder, o.seeds, budgets(o.kl, o.points));
  } catch (const interrupted& stop) {
    std::cerr << '\n' << stop.what() << '\n';
    return 130;
  } catch (const std::exception& error) {
    std::cerr << "align: " << error.what() << '\n';
    return 1;
  }
}
