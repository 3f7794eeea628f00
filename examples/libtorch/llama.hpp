// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
// A small Llama that reads a prompt once for all of its responses.
#pragma once

#include "binary.hpp"
#include "tokens.hpp"

#include <torch/torch.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <vector>

namespace trainer {

using torch::Tensor;

struct llama_size {
  int64_t vocabulary, width = 64, hidden = 128, layers = 2, heads = 4, key_heads = 2, window = 512;
  bool own_output = false;  ///< the map from the last hidden state to logits is not the table of tokens

  int64_t head_width() const { return width / heads; }
};

/// The keys and values of each layer: of P prompts, P × key heads × n × head width, and of the tokens so far of M
/// responses to each, P·M × key heads × t × head width. Gradients flow through them.
struct memory {
  struct layer {
    Tensor prompt_keys, prompt_values, keys, values;
  };
  std::vector<layer> layers;
  Tensor blocked;  ///< P × 1 × 1 × n: a large negative number where a prompt is padded, else 0
  int64_t size = 0;
};

inline constexpr double blocked_score = -1e9;

/// x·Wᵀ. After `adapt`, W has a correction of low rank that is 0 at first (LoRA; Hu and others, arXiv:2106.09685).
struct linear_impl : torch::nn::Module {
  linear_impl(int64_t in, int64_t out)
      : weight(register_parameter("weight", torch::randn({out, in}) / std::sqrt(static_cast<double>(in)))) {}

  void adapt(int64_t rank) {
    const auto in = weight.size(1), out = weight.size(0);
    down = register_parameter("down", torch::randn({rank, in}, weight.options()) / std::sqrt(static_cast<double>(in)));
    up = register_parameter("up", torch::zeros({out, rank}, weight.options()));
  }

  Tensor forward(const Tensor& x) const {
    const auto sum = up.defined() ? torch::addmm(weight, up, down) : weight;
    auto shape = x.sizes().vec();
    shape.back() = sum.size(0);
    return torch::mm(x.reshape({-1, x.size(-1)}), sum.t()).view(shape);
  }

  Tensor weight, down, up;
};
TORCH_MODULE_IMPL(linear, linear_impl);

/// x divided by the root of its mean square, times a weight.
struct norm_impl : torch::nn::Module {
  explicit norm_impl(int64_t width) : weight(register_parameter("weight", torch::ones({width}))) {}
  Tensor forward(const Tensor& x) const { return x * torch::rsqrt(x.square().mean(-1, true) + 1e-5) * weight; }
  Tensor weight;
};
TORCH_MODULE_IMPL(norm, norm_impl);

/// One layer: attention to earlier tokens, then a gated perceptron, each with a residual connection.
struct block_impl : torch::nn::Module {
  explicit block_impl(const llama_size& s)
      : size(s),
        norm_attention(register_module("norm_attention", norm(s.width))),
        norm_perceptron(register_module("norm_perceptron", norm(s.width))),
        query_key_value(
            register_module("query_key_value", linear(s.width, (s.heads + 2 * s.key_heads) * s.head_width()))),
        mix(register_module("mix", linear(s.width, s.width))),
        gate_and_wide(register_module("gate_and_wide", linear(s.width, 2 * s.hidden))),
        narrow(register_module("narrow", linear(s.hidden, s.width))) {}

  /// x: B × T × width. Reads P prompts if there are no prompt keys yet (T = n; blocked: P × 1 × n × n), else M responses
  /// to each of them (blocked: T × all t).
  Tensor forward(const Tensor& x, const Tensor& cosine, const Tensor& sine, const Tensor& blocked,
                 const Tensor& prompt_blocked, memory::layer& past) const {
    const auto B = x.size(0), T = x.size(1), G = size.key_heads, d = size.head_width(), H = size.heads, r = H / G;
    const auto parts = query_key_value->forward(norm_attention->forward(x)).view({B, T, H + 2 * G, d}).transpose(1, 2);
    const auto turned = rotated(parts.slice(1, 0, H + G), cosine, sine);
    // The r heads of one group of queries share their keys.
    const auto query = (turned.slice(1, 0, H) / std::sqrt(static_cast<double>(d))).reshape({B, G, r * T, d});
    auto keys = turned.slice(1, H).contiguous(), values = parts.slice(1, H + G).contiguous();

    Tensor read;
    if (!past.prompt_keys.defined()) {
      const auto scores = torch::matmul(query, keys.transpose(2, 3)).view({B, G, r, T, T}) + blocked.unsqueeze(2);
      read = torch::matmul(torch::softmax(scores, -1).view({B, G, r * T, T}), values);
      past.prompt_keys = keys;
      past.prompt_values = values;
    } else {
      if (past.keys.defined()) {
        keys = torch::cat({past.keys, keys}, 2);
        values = torch::cat({past.values, values}, 2);
      }
      past.keys = keys;
      past.values = values;
      const auto P = past.prompt_keys.size(0), n = past.prompt_keys.size(2), M = B / P, t = keys.size(2);
      // All responses to a prompt in one product with its keys.
      const auto by_prompt = [&](const Tensor& of_responses) {
        return of_responses.reshape({P, M, G, r * T, -1}).transpose(1, 2).reshape({P, G, M * r * T, -1});
      };
      const auto by_response = [&](const Tensor& of_prompts) {
        return of_prompts.reshape({P, G, M, r * T, -1}).transpose(1, 2).reshape({B, G, r * T, -1});
      };
      const auto to_prompt = torch::matmul(by_prompt(query), past.prompt_keys.transpose(2, 3)) + prompt_blocked;
      auto to_itself = torch::matmul(query, keys.transpose(2, 3));
      if (T > 1) to_itself = (to_itself.view({B, G, r, T, t}) + blocked).view({B, G, r * T, t});
      const auto share = torch::softmax(torch::cat({by_response(to_prompt), to_itself}, -1), -1);
      read = by_response(torch::matmul(by_prompt(share.slice(-1, 0, n).contiguous()), past.prompt_values)) +
             torch::matmul(share.slice(-1, n), values);
    }
    const auto attended = x + mix->forward(read.reshape({B, H, T, d}).transpose(1, 2).reshape({B, T, size.width}));
    const auto both = gate_and_wide->forward(norm_perceptron->forward(attended));
    return attended + narrow->forward(torch::silu(both.slice(-1, 0, size.hidden)) * both.slice(-1, size.hidden));
  }

  /// Turns each pair of neighbours by an angle that grows with the position (RoPE; Su and others, arXiv:2104.09864).
  static Tensor rotated(const Tensor& x, const Tensor& cosine, const Tensor& sine) {
    const auto pairs = x.unflatten(-1, {-1, 2});
    const auto a = pairs.select(-1, 0), b = pairs.select(-1, 1);
    return torch::stack({a * cosine - b * sine, a * sine + b * cosine}, -1).flatten(-2);
  }

  llama_size size;
  norm norm_attention, norm_perceptron;
  linear query_key_value, mix, gate_and_wide, narrow;
};
TORCH_MODULE_IMPL(block, block_impl);

struct llama_impl : torch::nn::Module {
  explicit llama_impl(const llama_size& s)
      : size(s),
        tokens(register_parameter("tokens", torch::randn({s.vocabulary, s.width}) * 0.05)),
        layers(register_module("layers", torch::nn::ModuleList())),
        last_norm(register_module("last_norm", norm(s.width))) {
    for (int64_t l = 0; l < s.layers; ++l) layers->push_back(block(s));
    if (s.own_output) output = register_parameter("output", torch::randn({s.vocabulary, s.width}) * 0.05);
    const auto d = s.head_width();
    const auto rate = torch::pow(10000.0, -torch::arange(0, d, 2, torch::kFloat) / static_cast<double>(d));
    angles = register_buffer("angles", torch::arange(s.window, torch::kFloat).unsqueeze(1) * rate);
  }

  /// Reads prompts, P × n, which are padded on the left. Returns the hidden states of their last tokens: P × width.
  Tensor read_prompts(const Tensor& text, memory& past) const {
    const auto n = text.size(1);
    const auto place = torch::arange(n, text.options());
    const auto none = torch::zeros({}, tokens.options());
    const auto padded = text == padding;
    // A token attends to itself and to earlier tokens, not to padding.
    const auto itself = place.unsqueeze(0) == place.unsqueeze(1);
    const auto forbidden = (place.unsqueeze(0) > place.unsqueeze(1)) | (padded.unsqueeze(1) & ~itself);
    past.layers.resize(layers->size());
    past.blocked = torch::zeros({text.size(0), 1, 1, n}, tokens.options())
                       .masked_fill(padded.unsqueeze(1).unsqueeze(1), blocked_score);
    past.size = n;
    const auto blocked = none.expand({text.size(0), 1, n, n}).masked_fill(forbidden.unsqueeze(1), blocked_score);
    return read(text, 0, blocked, past).slice(1, -1).squeeze(1);
  }

  /// Reads T tokens of P·M responses, after those in `past`, and adds them to it. Returns their hidden states: P·M × T ×
  /// width.
  Tensor read_responses(const Tensor& text, memory& past) const {
    const auto before = past.layers.front().keys.defined() ? past.layers.front().keys.size(2) : 0, T = text.size(1);
    const auto place = torch::arange(before, before + T, text.options()),
               all = torch::arange(before + T, text.options());
    const auto blocked = torch::zeros({T, before + T}, tokens.options())
                             .masked_fill(all.unsqueeze(0) > place.unsqueeze(1), blocked_score);
    return read(text, past.size + before, blocked, past);
  }

  /// The logits of the next token. It is never padding.
  Tensor next(const Tensor& hidden) const {
    auto bias = torch::where(torch::arange(size.vocabulary, tokens.device()) == padding,
                             torch::full({}, blocked_score, tokens.options()), torch::zeros({}, tokens.options()));
    if (token_bias.defined()) bias = bias + token_bias;
    const auto x = last_norm->forward(hidden);
    const auto logits = torch::addmm(bias, x.reshape({-1, size.width}), (output.defined() ? output : tokens).t());
    auto shape = x.sizes().vec();
    shape.back() = size.vocabulary;
    return logits.view(shape);
  }

  /// From now on only a small part is trained: corrections of low rank to the linear maps, the weights of the norms, and
  /// a bias for each token.
  void adapt(int64_t rank) {
    for (auto& parameter : parameters()) parameter.requires_grad_(parameter.dim() == 1);
    for (const auto& module : modules())
      if (auto* const map = module->as<linear_impl>()) map->adapt(rank);
    token_bias = register_parameter("token_bias", torch::zeros({size.vocabulary}, tokens.options()));
  }

  llama_size size;
  Tensor tokens, output, token_bias, angles;
  torch::nn::ModuleList layers;
  norm last_norm;

 private:
  Tensor read(const Tensor& text, int64_t first, const Tensor& blocked, memory& past) const {
    const auto part = angles.slice(0, first, first + text.size(1));
    const auto cosine = torch::cos(part), sine = torch::sin(part);
    auto x = torch::embedding(tokens, text);
    for (std::size_t l = 0; l < layers->size(); ++l)
      x = layers->ptr<block_impl>(l)->forward(x, cosine, sine, blocked, past.blocked, past.layers[l]);
    return x;
  }
};
TORCH_MODULE_IMPL(llama, llama_impl);

/// Moves a model's weights w to share·w + (1 − share)·v, where v are the weights of another model. The other model has
/// no corrections: these become share·up, and share·token_bias.
inline void move_weights(llama& model, const llama& from, double share) {
  const torch::NoGradGuard no_gradient;
  const auto known = from->named_parameters();
  for (auto& parameter : model->named_parameters())
    if (const Tensor* const same = known.find(parameter.key()))
      parameter.value().lerp_(*same, 1 - share);
    else if (!parameter.key().ends_with(".down"))
      parameter.value().mul_(share);
}

/// Prompts without the columns in which all are padded.
inline Tensor without_padding(const Tensor& prompts) {
  return prompts.slice(1, (prompts != padding).any(0).to(torch::kLong).argmax().item<int64_t>());
}

/// The log-probabilities of all tokens at each place of B = P·M responses, M to each of P prompts, prompt by prompt: B ×
/// T × vocabulary. Each prompt is read once.
inline Tensor all_log_probabilities(const llama& model, const Tensor& prompts, const Tensor& responses) {
  memory past;
  const auto M = responses.size(0) / prompts.size(0);
  auto hidden = model->read_prompts(without_padding(prompts), past).repeat_interleave(M, 0).unsqueeze(1);
  if (responses.size(1) > 1) hidden = torch::cat({hidden, model->read_responses(responses.slice(1, 0, -1), past)}, 1);
  return torch::log_softmax(model->next(hidden), -1);
}

/// log π(y_t | y_<t) of each token: B × T, with 0 at padding.
inline Tensor log_probabilities(const llama& model, const Tensor& prompts, const Tensor& responses) {
  const auto log_p = all_log_probabilities(model, prompts, responses).gather(2, responses.unsqueeze(2)).squeeze(2);
  return log_p.masked_fill(responses == padding, 0);
}

/// KL(π(·|y_<t) ‖ π_ref(·|y_<t)) before each token of the responses: B × T, with 0 at padding.
inline Tensor token_kl(const llama& model, const llama& reference, const Tensor& prompts, const Tensor& responses) {
  const auto now = all_log_probabilities(model, prompts, responses);
  const auto ratio = now - all_log_probabilities(reference, prompts, responses);
  return (now.exp() * ratio).sum(-1).masked_fill(responses == padding, 0);
}

/// Samples M responses of at most T tokens to each of P prompts: P·M × T.
inline Tensor sample(const llama& model, const Tensor& prompts, int64_t M, int64_t T) {
  const torch::NoGradGuard no_gradient;
  memory past;
  auto hidden = model->read_prompts(without_padding(prompts), past).repeat_interleave(M, 0);
  const auto responses = torch::full({prompts.size(0) * M, T}, padding, prompts.options());
  auto running = torch::ones({responses.size(0), 1}, torch::kBool).to(prompts.device());
  for (int64_t t = 0; t < T; ++t) {
    const auto below = torch::cumsum(torch::softmax(model->next(hidden), -1), -1), all = below.slice(1, -1);
    // The first token whose cumulative probability is above it: many times as fast as torch::multinomial.
    const auto drawn = torch::searchsorted(below, torch::rand_like(all) * all, false, true);
    const auto token = drawn.masked_fill(~running, padding);
    responses.slice(1, t, t + 1).copy_(token);
    running = running & (token != boundary);
    if (t + 1 == T || !running.any().item<bool>()) break;
    hidden = model->read_responses(token, past).squeeze(1);
  }
  return responses;
}

namespace detail {

/// Calls f with each weight of a model, in the order of the file format of llama2.c.
template <class F>
void for_each_weight(const llama& model, const F& f) {
  const auto& s = model->size;
  const auto heads = s.heads * s.head_width(), keys = s.key_heads * s.head_width();
  const auto each = [&](const auto& weight_of) {
    for (std::size_t l = 0; l < model->layers->size(); ++l) f(weight_of(*model->layers->ptr<block_impl>(l)));
  };
  f(model->tokens);
  each([](const block_impl& b) { return b.norm_attention->weight; });
  each([&](const block_impl& b) { return b.query_key_value->weight.slice(0, 0, heads); });
  each([&](const block_impl& b) { return b.query_key_value->weight.slice(0, heads, heads + keys); });
  each([&](const block_impl& b) { return b.query_key_value->weight.slice(0, heads + keys); });
  each([](const block_impl& b) { return b.mix->weight; });
  each([](const block_impl& b) { return b.norm_perceptron->weight; });
  each([&](const block_impl& b) { return b.gate_and_wide->weight.slice(0, 0, s.hidden); });
  each([](const block_impl& b) { return b.narrow->weight; });
  each([&](const block_impl& b) { return b.gate_and_wide->weight.slice(0, s.hidden); });
  f(model->last_norm->weight);
}

}  // namespace detail

/// Reads a model from a file in the first format of llama2.c (github.com/karpathy/llama2.c): seven numbers, then the
/// weights as float, with tables of angles that are not needed. The number of tokens is negative if the output has
/// weights of its own. Throws if the numbers do not fit together, or the file is too short or too long.
inline llama read_llama(const std::filesystem::path& file) {
  binary_reader in(file);
  int64_t numbers[7];
  for (auto& number : numbers) number = in.number<std::int32_t>();
  const auto [width, hidden, layers, heads, key_heads, vocabulary, window] = numbers;
  const llama_size s{std::abs(vocabulary), width, hidden, layers, heads, key_heads, window, vocabulary < 0};
  for (const auto number : {s.vocabulary, s.width, s.hidden, s.layers, s.heads, s.key_heads, s.window})
    if (number < 1 || number > 1 << 20) throw std::invalid_argument(file.string() + ": not a model of llama2.c");
  if (s.width % (2 * s.heads) != 0 || s.heads % s.key_heads != 0 || s.window < prompt_length + response_length)
    throw std::invalid_argument(file.string() + ": a model of a size that cannot be");
  llama model(s);
  const torch::NoGradGuard no_gradient;
  const auto read = [&in](const Tensor& weight) {
    const auto values = torch::empty(weight.sizes());
    in.numbers(values.data_ptr<float>(), values.numel());
    weight.copy_(values);
  };
  detail::for_each_weight(model, read);
  for (int64_t i = 0; i < s.window * s.head_width(); ++i) in.number<float>();
  if (s.own_output) read(model->output);
  in.finish();
  return model;
}

inline void write_llama(const std::filesystem::path& file, const llama& model) {
  const auto& s = model->size;
  binary_writer out(file);
  for (const auto number :
       {s.width, s.hidden, s.layers, s.heads, s.key_heads, s.own_output ? -s.vocabulary : s.vocabulary, s.window})
    out.number(static_cast<std::int32_t>(number));
  const auto write = [&out](const Tensor& weight) {
    const auto values = weight.detach().cpu().contiguous();
    out.numbers(values.data_ptr<float>(), values.numel());
  };
  detail::for_each_weight(model, write);
  write(torch::cos(model->angles));
  write(torch::sin(model->angles));
  if (s.own_output) write(model->output);
}

}  // namespace trainer
