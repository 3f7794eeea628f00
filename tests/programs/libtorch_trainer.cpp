// SPDX-License-Identifier: MIT
// The trainer of examples/libtorch, on a model so small that hundreds of steps take seconds. With the environment variables
// INFALIGN_STORIES260K (a folder with stories260K.bin and tok512.bin) and INFALIGN_VADER (the file vader_lexicon.txt) also
// on the files that its README names.
#include "align.hpp"
#include "resumable.hpp"
#include "score.hpp"
#include "texts.hpp"

#undef CHECK  // Torch's; Catch2's is meant below
#include "catch.hpp"

#include <cstdlib>
#include <fstream>
#include <limits>

namespace {

using namespace trainer;

const llama_size small{
    .vocabulary = 12, .width = 16, .hidden = 24, .layers = 2, .heads = 4, .key_heads = 2, .window = 80};

llama model_of(std::uint64_t seed, const llama_size& size = small) {
  torch::manual_seed(seed);
  llama model(size);
  const torch::NoGradGuard no_gradient;
  model->tokens.normal_(0, 0.7);  // far from uniform
  for (auto& p : model->parameters())
    if (p.dim() == 1) p.uniform_(0.5, 1.5);
  return model;
}

/// Prompts of 48, 7 and 1 tokens, padded on the left.
Tensor some_prompts() {
  torch::manual_seed(1);
  auto prompts = torch::randint(2, small.vocabulary, {3, prompt_length}, torch::kLong);
  prompts[1].slice(0, 0, prompt_length - 7).fill_(padding);
  prompts[2].slice(0, 0, prompt_length - 1).fill_(padding);
  return prompts;
}

/// A folder that is removed at the end.
struct scratch_folder {
  fs::path path = fs::temp_directory_path() / ("infalign_trainer_" + std::to_string(getpid()));
  scratch_folder() { fs::create_directories(path); }
  scratch_folder(const scratch_folder&) = delete;
  scratch_folder& operator=(const scratch_folder&) = delete;
  ~scratch_folder() { fs::remove_all(path); }
  fs::path operator/(const std::string& name) const { return path / name; }
};

void write_text(const fs::path& file, const std::string& text) {
  std::ofstream(file, std::ios::binary) << text;
}

std::string text_of(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

double resident_mib() {
  std::ifstream statm("/proc/self/statm");
  double pages = 0, resident = 0;
  statm >> pages >> resident;
  return resident * 4096 / (1 << 20);
}

/// The share of the tokens above 6.
Tensor high(const Tensor&, const Tensor& responses) {
  return (responses > 6).to(torch::kFloat).mean(1);
}

/// A Llama once more, number by number from the file: log π of the last token given the others.
class plain_llama {
 public:
  explicit plain_llama(const fs::path& file) {
    std::ifstream in(file, std::ios::binary);
    std::int32_t n[7];
    in.read(reinterpret_cast<char*>(n), sizeof n);
    D = n[0], F = n[1], L = n[2], H = n[3], G = n[4], V = std::abs(n[5]), S = n[6], d = D / H;
    const auto take = [&in](int count) {
      std::vector<float> values(static_cast<std::size_t>(count));
      in.read(reinterpret_cast<char*>(values.data()), static_cast<std::streamsize>(values.size() * sizeof(float)));
      return values;
    };
    tokens = take(V * D), norm_attention = take(L * D), query = take(L * D * D), key = take(L * G * d * D);
    value = take(L * G * d * D), mix = take(L * D * D), norm_perceptron = take(L * D), gate = take(L * F * D);
    narrow = take(L * F * D), wide = take(L * F * D), last_norm = take(D);
    take(S * d);
    output = n[5] < 0 ? take(V * D) : tokens;
  }

  double log_probability(const std::vector<std::int64_t>& text) const {
    const int n = static_cast<int>(text.size()) - 1;
    std::vector<row> x;
    for (int i = 0; i < n; ++i)
      x.push_back(times(tokens, 0, 1, D, {}, static_cast<int>(text[static_cast<std::size_t>(i)])));
    for (int l = 0; l < L; ++l) {
      std::vector<row> q, k, v;
      for (int i = 0; i < n; ++i) {
        const row h = normed(x[at(i)], norm_attention, l);
        q.push_back(turned(times(query, l, D, D, h), i));
        k.push_back(turned(times(key, l, G * d, D, h), i));
        v.push_back(times(value, l, G * d, D, h));
      }
      for (int i = 0; i < n; ++i) {
        row read(at(D), 0.0);
        for (int h = 0; h < H; ++h) {
          const int g = h / (H / G);
          row weight;
          double sum = 0;
          for (int j = 0; j <= i; ++j) {
            double score = 0;
            for (int c = 0; c < d; ++c) score += q[at(i)][at(h * d + c)] * k[at(j)][at(g * d + c)];
            weight.push_back(std::exp(score / std::sqrt(d)));
            sum += weight.back();
          }
          for (int j = 0; j <= i; ++j)
            for (int c = 0; c < d; ++c) read[at(h * d + c)] += weight[at(j)] / sum * v[at(j)][at(g * d + c)];
        }
        add(x[at(i)], times(mix, l, D, D, read));
      }
      for (auto& one : x) {
        const row h = normed(one, norm_perceptron, l);
        row a = times(gate, l, F, D, h);
        const row b = times(wide, l, F, D, h);
        for (int c = 0; c < F; ++c) a[at(c)] *= b[at(c)] / (1 + std::exp(-a[at(c)]));
        add(one, times(narrow, l, D, F, a));
      }
    }
    const row logits = times(output, 0, V, D, normed(x.back(), last_norm, 0));
    double sum = 0;
    for (int token = 0; token < V; ++token)
      if (token != padding) sum += std::exp(logits[at(token)]);
    return logits[static_cast<std::size_t>(text.back())] - std::log(sum);
  }

 private:
  using row = std::vector<double>;
  static std::size_t at(int i) { return static_cast<std::size_t>(i); }

  /// The matrix of a layer, out × in, times x; or its row `only`.
  static row times(const std::vector<float>& w, int layer, int out, int in, const row& x, int only = -1) {
    row y;
    if (only >= 0) {
      for (int c = 0; c < in; ++c) y.push_back(w[at(only * in + c)]);
      return y;
    }
    for (int o = 0; o < out; ++o) {
      double sum = 0;
      for (int c = 0; c < in; ++c) sum += static_cast<double>(w[at((layer * out + o) * in + c)]) * x[at(c)];
      y.push_back(sum);
    }
    return y;
  }

  row normed(const row& x, const std::vector<float>& weight, int layer) const {
    double squares = 0;
    for (const double c : x) squares += c * c;
    row y;
    for (int c = 0; c < D; ++c)
      y.push_back(x[at(c)] / std::sqrt(squares / D + 1e-5) * static_cast<double>(weight[at(layer * D + c)]));
    return y;
  }

  row turned(row x, int position) const {
    for (int c = 0; c < static_cast<int>(x.size()); c += 2) {
      const double angle = position * std::pow(10000.0, -static_cast<double>(c % d) / d);
      const double a = x[at(c)], b = x[at(c + 1)];
      x[at(c)] = a * std::cos(angle) - b * std::sin(angle);
      x[at(c + 1)] = a * std::sin(angle) + b * std::cos(angle);
    }
    return x;
  }

  static void add(row& to, const row& from) {
    for (std::size_t c = 0; c < to.size(); ++c) to[c] += from[c];
  }

  int D, F, L, H, G, V, S, d;
  std::vector<float> tokens, norm_attention, query, key, value, mix, norm_perceptron, gate, narrow, wide, last_norm,
      output;
};

}  // namespace

TEST_CASE("a model read from a file says what the formulas say, whatever the padding and the other responses") {
  const scratch_folder folder;
  llama_size size = small;
  size.own_output = GENERATE(false, true);
  write_llama(folder / "model.bin", model_of(3, size));
  const plain_llama plain(folder / "model.bin");
  const auto model = read_llama(folder / "model.bin");
  const auto prompts = some_prompts();
  const auto responses = sample(model, prompts, 4, response_length);
  const auto log_p = log_probabilities(model, prompts, responses);
  for (int64_t i = 0; i < responses.size(0); i += 3) {
    std::vector<std::int64_t> text;
    for (int64_t t = 0; t < prompt_length; ++t)
      if (const auto token = prompts[i / 4][t].item<int64_t>(); token != padding) text.push_back(token);
    for (int64_t t = 0; t < response_length && responses[i][t].item<int64_t>() != padding; ++t) {
      text.push_back(responses[i][t].item<int64_t>());
      REQUIRE(log_p[i][t].item<float>() == near(plain.log_probability(text), 1e-4));
    }
  }
  CHECK((responses == padding).equal(log_p == 0));
}

TEST_CASE("the responses to one prompt alone are sampled and read as among others") {
  const auto model = model_of(3, small);
  const auto prompts = some_prompts();
  const auto responses = sample(model, prompts, 3, response_length);
  const auto together = log_probabilities(model, prompts, responses);
  for (int64_t p = 0; p < prompts.size(0); ++p) {
    const auto one = prompts.slice(0, p, p + 1);
    CHECK(torch::allclose(log_probabilities(model, one, responses.slice(0, 3 * p, 3 * p + 3)),
                          together.slice(0, 3 * p, 3 * p + 3), 0, 1e-5));
    CHECK(sample(model, one, 3, response_length).size(0) == 3);
  }
}

TEST_CASE("a response is read token by token as it is read at once") {
  const auto model = model_of(3);
  const auto prompts = some_prompts();
  const auto responses = sample(model, prompts, 4, response_length);
  const auto at_once = log_probabilities(model, prompts, responses);
  memory past;
  auto hidden = model->read_prompts(prompts, past).repeat_interleave(4, 0);
  for (int64_t t = 0; t < response_length; ++t) {
    const auto token = responses.slice(1, t, t + 1);
    const auto log_p = torch::log_softmax(model->next(hidden), -1).gather(1, token).masked_fill(token == padding, 0);
    CHECK(torch::allclose(log_p, at_once.slice(1, t, t + 1), 1e-4, 1e-4));
    hidden = model->read_responses(token, past).squeeze(1);
  }
}

TEST_CASE("a file of a model is refused if it is cut, longer, or not a model") {
  const scratch_folder folder;
  const auto file = folder / "model.bin";
  write_llama(file, model_of(3));
  const auto bytes = text_of(file);
  write_text(file, bytes.substr(0, bytes.size() - 4));
  CHECK(error_of([&] { read_llama(file); }) == file.string() + ": shorter than expected");
  write_text(file, bytes + "x");
  CHECK(error_of([&] { read_llama(file); }) == file.string() + ": longer than expected");
  write_text(file, std::string(1000, 'x'));
  CHECK(error_of([&] { read_llama(file); }) == file.string() + ": not a model of llama2.c");
  CHECK(error_of([&] { read_llama(folder / "none"); }) == (folder / "none").string() + ": cannot be opened");
}

TEST_CASE("what is sampled has the frequencies that the model says") {
  const auto model = model_of(4);
  const auto prompt = some_prompts().slice(0, 1, 2);
  memory past;
  const auto p = torch::softmax(model->next(model->read_prompts(prompt, past)), -1).flatten();
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

TEST_CASE("the KL of the tokens is that of the responses, with less noise") {
  const auto reference = model_of(4), policy = model_of(5);
  const auto prompts = some_prompts();
  torch::manual_seed(6);
  constexpr int64_t n = 4000;
  const auto responses = sample(policy, prompts, n, 6);
  const auto exact = token_kl(policy, reference, prompts, responses).sum(1);
  const auto ratio =
      (log_probabilities(policy, prompts, responses) - log_probabilities(reference, prompts, responses)).sum(1);
  const double error = (exact - ratio).std().item<double>() / std::sqrt(3.0 * n);
  CHECK(exact.mean().item<double>() == near(ratio.mean().item<double>(), 4.5 * error));
  CHECK(exact.std().item<double>() < ratio.std().item<double>());
  CHECK((exact >= 0).all().item<bool>());
}

TEST_CASE("a text becomes characters, and then the pair with the highest score is merged, again and again") {
  const scratch_folder folder;
  const auto file = folder / "tokenizer.bin";
  const std::vector<std::pair<std::string, float>> pieces{{" ", 0},  {"a", 0},  {"b", 0},   {"c", 0},
                                                          {"ab", 1}, {"bc", 2}, {"abc", 3}, {" a", 0.5f}};
  const auto write = [&](std::size_t count) {
    binary_writer out(file);
    out.number(std::int32_t{3});
    for (int id = 0; id < 259; ++id) out.number(0.0f), out.number(std::int32_t{1}), out.text("\1");
    for (std::size_t i = 0; i < count; ++i)
      out.number(pieces[i].second), out.number(static_cast<std::int32_t>(pieces[i].first.size())),
          out.text(pieces[i].first);
  };
  write(8);
  const tokenizer tokens(file, 267);
  enum : std::int64_t { space = 259, a, b, c, ab, bc, abc, space_a };
  using ids = std::vector<std::int64_t>;
  CHECK(tokens.encode("").empty());
  CHECK(tokens.encode("ab") == ids{space, ab});    // ab (1) before " a" (0.5)
  CHECK(tokens.encode("abc") == ids{space, abc});  // bc (2), then abc (3)
  CHECK(tokens.encode("aab") == ids{space_a, ab});
  CHECK(tokens.encode("a\u00e9") == ids{space_a, 3 + 0xC3, 3 + 0xA9});  // not a piece: its bytes
  const ids text{1, space_a, 3 + 0xC3, 3 + 0xA9, bc, 0};
  CHECK(tokens.decode(text.data(), 6) ==
        " a\u00e9"
        "bc");
  CHECK(error_of([&] { tokenizer(file, 266); }) == file.string() + ": longer than expected");
  CHECK(error_of([&] { tokenizer(file, 268); }) == file.string() + ": shorter than expected");
}

TEST_CASE("a tokenizer learns frequent words as one token, and is the same after it was written and read") {
  const scratch_folder folder;
  const std::vector<std::string> texts{"the cat sat on the mat", "the cat ate the rat", "a cat"};
  const tokenizer learnt(texts, 290);
  CHECK(learnt.encode("the cat").size() == 2);
  CHECK(learnt.size() <= 290);
  learnt.write(folder / "tokenizer.bin");
  const tokenizer read(folder / "tokenizer.bin", learnt.size());
  for (const auto& text : texts) {
    const auto ids = learnt.encode(text);
    CHECK(read.encode(text) == ids);
    CHECK(read.decode(ids.data(), static_cast<std::int64_t>(ids.size())) == " " + text);
  }
}

TEST_CASE("the sentiment of sentences is the published one") {
  const scratch_folder folder;
  write_text(folder / "words.txt",
             "smart\t1.7\t0.78102\t[1, 2]\nhandsome\t2.2\nfunny\t1.9\ngood\t1.9\nkind\t2.4\nbad\t-2.5\nhorrible\t-2.5\n"
             "uncompelling\t-0.9\ngreat\t3.1\nsux\t-1.5\nlol\t1.8\nsure\t1.3\n:)\t2\n:d\t2.3\n");
  const lexicon words(folder / "words.txt");
  // From the documentation of vaderSentiment (github.com/cjhutto/vaderSentiment), to four digits.
  const std::vector<std::pair<const char*, double>> published{
      {"VADER is smart, handsome, and funny.", 0.8316},
      {"VADER is smart, handsome, and funny!", 0.8439},
      {"VADER is very smart, handsome, and funny.", 0.8545},
      {"VADER is VERY SMART, handsome, and FUNNY.", 0.9227},
      {"VADER is VERY SMART, handsome, and FUNNY!!!", 0.9342},
      {"VADER is not smart, handsome, nor funny.", -0.7424},
      {"The book was good.", 0.4404},
      {"The book was kind of good.", 0.3832},
      {"The plot was good, but the characters are uncompelling and the dialog is not great.", -0.7042},
      {"A really bad, horrible book.", -0.8211},
      {"At least it isn't a horrible book.", 0.431},
      {"Make sure you :) or :D today!", 0.8633},
      {"Today SUX!", -0.5461},
      {"Today only kinda sux! But I'll get by, lol", 0.5249},
      {"Not bad at all", 0.431},
      {"The house has a door", 0}};
  for (const auto& [text, score] : published) {
    CAPTURE(text);
    CHECK(words.score(text) == near(score, 5.1e-5));
  }
  const auto x = [](double sum) { return near(sum / std::sqrt(sum * sum + 15), 1e-12); };
  CHECK(words.score("good??") == x(1.9 + 0.36));
  CHECK(words.score("bad????") == x(-2.5 - 0.96));
  CHECK(words.score("good!!!!!!") == x(1.9 + 4 * 0.292));
  CHECK(words.score("very a b good") == x(1.9 + 0.293));          // single characters are no words
  CHECK(words.score("very it good") == x(1.9 + 0.95 * 0.293));    // one word between
  CHECK(words.score("very it is good") == x(1.9 + 0.9 * 0.293));  // two
  CHECK(words.score("very it is now good") == x(1.9));
  CHECK(words.score("never so good") == x(1.9 * 1.5 + 0.293 * 1.5));
  CHECK(words.score("least good") == x(1.9 * -0.74));
  CHECK(words.score("at least good") == x(1.9));
  CHECK(words.score("here is the bomb") == 0);  // an idiom counts only if its word is in the lexicon
  CHECK(words.score("now it is bad ass") == x(1.5));
  write_text(folder / "words.txt", "good\t1\nbad -1\n");
  CHECK(error_of([&] { lexicon(folder / "words.txt"); }) ==
        (folder / "words.txt").string() + ":2: expected a word, a tab, a number");
}

TEST_CASE("any program that reads lines can give the rewards") {
  const scratch_folder folder;
  const std::vector<std::string> prompts{"a", "b\tc"}, responses{"x\ny", ""};
  const auto lengths = score_by_command("awk -F '\t' '{ print NF * 100 + length($0) }'", folder.path);
  CHECK(lengths(prompts, responses) == std::vector<float>{205, 204});
  const auto none = score_by_command("echo nan; cat > /dev/null; echo 1e-3", folder.path)(prompts, responses);
  CHECK(std::isnan(none[0]));
  CHECK(none[1] == 1e-3f);
  const auto refused = [&](const std::string& command) {
    CHECK_THROWS_AS(score_by_command(command, folder.path)(prompts, responses), std::runtime_error);
  };
  refused("echo 1");
  refused("cat");
  refused("echo 1; echo 2; exit 3");
}

TEST_CASE("prompts are beginnings; those held out share no first sentence with the others") {
  CHECK(beginnings("One \"two.\"  Three\nfour! Five", 3) ==
        std::vector<std::string>{"One \"two.\"", "One \"two.\" Three four!"});
  CHECK(beginnings("A. B. C. D.", 2) == std::vector<std::string>{"A.", "A. B."});
  const auto world = make_up(500);
  const tokenizer tokens(world.texts, 480);
  const auto sets = prompts_of(world.texts, tokens, 1000, 40);
  CHECK(sets.held_out.size() == 40);
  CHECK(sets.training.size() > 200);
  std::set<std::string> first;
  for (const auto& prompt : sets.held_out) {
    CHECK(beginnings(prompt.text, 9) == std::vector<std::string>{prompt.text});
    CHECK(prompt.tokens.front() == boundary);
    CHECK(tokens.decode(prompt.tokens.data(), static_cast<std::int64_t>(prompt.tokens.size())) == " " + prompt.text);
    first.insert(prompt.text);
  }
  CHECK(first.size() == 40);
  for (const auto& prompt : sets.training) CHECK(first.count(beginnings(prompt.text, 1).front()) == 0);
}

TEST_CASE(
    "hundreds of steps: rewards rise as far as the KL allows, memory does not, and what has no score is left out") {
  const auto prompts = some_prompts();
  auto reference = model_of(8);
  const auto before = measure(reference, nullptr, high, prompts, 512);
  const scorer score = [](const Tensor& prompt, const Tensor& responses) {  // every seventh cannot be told
    auto rewards = high(prompt, responses);
    for (int64_t i = 0; i < rewards.size(0); i += 7) rewards[i] = std::numeric_limits<float>::quiet_NaN();
    return rewards;
  };
  for (const auto& aim : goals(before.rewards.leftCols(8), 0.5)) {
    CAPTURE(aim.name);
    auto policy = model_of(8);
    torch::optim::Adam optimizer(policy->parameters(), 5e-4);
    infalign::adaptive_kl_per_sequence control{.beta = 4 * aim.beta, .target = 0.5, .horizon = 120};
    const int steps = aim.name == "best-of-4" ? 300 : 60;
    double early = 0;
    for (int step = 0; step < steps; ++step) {
      torch::manual_seed(static_cast<std::uint64_t>(step));
      optimizer.zero_grad();
      const auto metrics = align_step(policy, reference, score, aim, control.beta, {0, 1, 2}, prompts, 8);
      REQUIRE(metrics.sequences == 20);  // of 24, four of which are NaN
      optimizer.step();
      control.update(metrics);
      if (step == 80) early = resident_mib();
    }
    if (steps == 300) CHECK(resident_mib() < early + 8);
    const auto after = measure(policy, &reference, high, prompts, 512);
    CHECK(after.kl.mean() > 0.1f);
    CHECK(after.kl.mean() < 1.5f);
    // The spread of a response's reward is that of its mean over 1,536, times 39.
    const auto& r = before.rewards;
    const double error = std::sqrt((r - r.mean()).square().mean() / static_cast<float>(r.size()));
    CHECK(after.rewards.mean() > r.mean() + 10 * error);
  }
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
  const scratch_folder folder;
  const auto prompts = some_prompts();
  const auto run = [&](const std::string& file, int64_t stop_at) {
    auto model = model_of(9), average = model_of(9);
    state s{*model, average.ptr().get(), {0}};
    train({"a stage", folder / file, 12, 1e-2}, s, [&](std::vector<double>& saved) {
      const auto loss = log_probabilities(model, prompts, sample(model, prompts, 2, response_length)).mean();
      loss.backward();
      saved[0] += loss.item<double>();
      if (s.step == stop_at) stop_requested = 1;
      return std::string();
    });
    return std::tuple{model, average, s.numbers};
  };
  const auto [whole, mean, expected] = run("whole.pt", -1);
  CHECK_THROWS_AS(run("parts.pt", 4), interrupted);
  stop_requested = 0;
  CHECK_THROWS_AS(run("parts.pt", 9), interrupted);
  stop_requested = 0;
  const auto [parts, mean_of_parts, numbers] = run("parts.pt", -1);
  CHECK(numbers == expected);
  const auto same = [](const llama& a, const llama& b) {
    const auto p = a->parameters(), q = b->parameters();
    return std::equal(p.begin(), p.end(), q.begin(), [](const Tensor& x, const Tensor& y) { return x.equal(y); });
  };
  CHECK(same(whole, parts));
  CHECK(same(mean, mean_of_parts));
  CHECK_FALSE(same(whole, mean));
}

TEST_CASE("the pretrained model of the README writes what llama2.c makes it write") {
  const char* const folder = std::getenv("INFALIGN_STORIES260K");
  if (folder == nullptr) {
    WARN("skipped: INFALIGN_STORIES260K does not name a folder with stories260K.bin and tok512.bin");
    return;
  }
  const auto model = read_llama(fs::path(folder) / "stories260K.bin");
  const tokenizer tokens(fs::path(folder) / "tok512.bin", model->size.vocabulary);
  CHECK(tokens.encode("Once upon a time") == std::vector<std::int64_t>{403, 407, 261, 378});
  // The most likely token each time, as the test of llama2.c (test_all.py) has it.
  const std::string expected =
      " Once upon a time, there was a little girl named Lily. She loved to play outside in the park. One day, she saw "
      "a "
      "big, red ball. She wanted to play with it, but it was too high.\nLily's mom said, \"Lily, let's go to the "
      "park.\"";
  const torch::NoGradGuard no_gradient;
  std::vector<std::int64_t> text;
  memory past;
  auto hidden = model->read_prompts(torch::full({1, 1}, boundary, torch::kLong), past);
  while (text.size() < 120) {
    const auto token = model->next(hidden).argmax(-1, true);
    text.push_back(token.item<int64_t>());
    hidden = model->read_responses(token, past).squeeze(1);
  }
  CHECK(tokens.decode(text.data(), 120).substr(0, expected.size()) == expected);
}

TEST_CASE("with the published lexicon, longer sentences have the published sentiment") {
  const char* const file = std::getenv("INFALIGN_VADER");
  if (file == nullptr) {
    WARN("skipped: INFALIGN_VADER does not name the file vader_lexicon.txt");
    return;
  }
  const lexicon words(file);
  CHECK(words.score("It was one of the worst movies I've seen, despite good reviews.") == near(-0.7584, 5.1e-5));
  CHECK(words.score("Unbelievably bad acting!!") == near(-0.6572, 5.1e-5));
  CHECK(words.score("Poor direction.") == near(-0.4767, 5.1e-5));
  CHECK(words.score("VERY poor production.") == near(-0.6281, 5.1e-5));
  CHECK(words.score("The movie was bad.") == near(-0.5423, 5.1e-5));
}
