// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
// A small GPT that reads batches of prompts and responses, with a cache of keys and values.
#pragma once

#include "tokens.hpp"

#include <torch/torch.h>

#include <cmath>
#include <utility>
#include <vector>

namespace trainer {

using torch::Tensor;

struct gpt_size {
  int64_t vocabulary, window = prompt_length + response_length, width = 64, layers = 2, heads = 4;
  double dropout = 0.1;
};

/// The keys and values of the tokens read so far, B × heads × n × width/heads for each layer, and which of the n
/// positions have a token. Gradients flow through it, so that training reads a prompt once for all of its responses.
struct memory {
  std::vector<Tensor> keys, values;
  Tensor present;

  int64_t size() const { return present.defined() ? present.size(1) : 0; }

  /// Repeats each prompt for `times` responses.
  memory repeated(int64_t times) const {
    memory result{{}, {}, present.repeat_interleave(times, 0)};
    for (std::size_t l = 0; l < keys.size(); ++l) {
      result.keys.push_back(keys[l].repeat_interleave(times, 0));
      result.values.push_back(values[l].repeat_interleave(times, 0));
    }
    return result;
  }
};

/// A linear map x·W + b. After `adapt` it is x·W + b + (x·down)·up, with a correction of low rank that is 0 at first
/// (LoRA; Hu and others, arXiv:2106.09685).
struct linear_impl : torch::nn::LinearImpl {
  using torch::nn::LinearImpl::LinearImpl;

  void adapt(int64_t rank) {
    const auto in = weight.size(1), out = weight.size(0);
    down = register_parameter("down", torch::randn({in, rank}, weight.options()) / std::sqrt(static_cast<double>(in)));
    up = register_parameter("up", torch::zeros({rank, out}, weight.options()));
  }

  Tensor forward(const Tensor& x) {
    const auto y = torch::nn::LinearImpl::forward(x);
    return up.defined() ? y + torch::matmul(torch::matmul(x, down), up) : y;
  }

  Tensor down, up;
};
TORCH_MODULE_IMPL(linear, linear_impl);

/// One layer: attention to earlier tokens, then a perceptron, each with a residual connection.
struct block_impl : torch::nn::Module {
  explicit block_impl(const gpt_size& size)
      : heads(size.heads),
        norm_attention(register_module("norm_attention", torch::nn::LayerNorm(norm(size)))),
        norm_perceptron(register_module("norm_perceptron", torch::nn::LayerNorm(norm(size)))),
        query_key_value(register_module("query_key_value", linear(size.width, 3 * size.width))),
        mix(register_module("mix", linear(size.width, size.width))),
        wide(register_module("wide", linear(size.width, 4 * size.width))),
        narrow(register_module("narrow", linear(4 * size.width, size.width))),
        dropout(register_module("dropout", torch::nn::Dropout(size.dropout))) {}

  static torch::nn::LayerNormOptions norm(const gpt_size& size) { return torch::nn::LayerNormOptions({size.width}); }

  Tensor forward(const Tensor& x, const Tensor& blocked, Tensor& keys, Tensor& values) {
    const auto B = x.size(0), n = x.size(1), width = x.size(2);
    const auto parts =
        query_key_value(norm_attention(x)).view({B, n, 3, heads, width / heads}).permute({2, 0, 3, 1, 4});
    keys = keys.defined() ? torch::cat({keys, parts[1]}, 2) : parts[1];
    values = values.defined() ? torch::cat({values, parts[2]}, 2) : parts[2];
    const auto scale = std::sqrt(static_cast<double>(width / heads));
    const auto scores = (torch::matmul(parts[0], keys.transpose(2, 3)) / scale).masked_fill(blocked, -1e9);
    const auto read = torch::matmul(torch::softmax(scores, -1), values).transpose(1, 2).reshape({B, n, width});
    const auto attended = x + dropout(mix(read));
    return attended + dropout(narrow(torch::gelu(wide(norm_perceptron(attended)))));
  }

  int64_t heads;
  torch::nn::LayerNorm norm_attention, norm_perceptron;
  linear query_key_value, mix, wide, narrow;
  torch::nn::Dropout dropout;
};
TORCH_MODULE_IMPL(block, block_impl);

struct gpt_impl : torch::nn::Module {
  explicit gpt_impl(const gpt_size& s)
      : size(s),
        tokens(register_module("tokens", torch::nn::Embedding(s.vocabulary, s.width))),
        places(register_module("places", torch::nn::Embedding(s.window, s.width))),
        layers(register_module("layers", torch::nn::ModuleList())),
        norm(register_module("norm", torch::nn::LayerNorm(block_impl::norm(s)))),
        dropout(register_module("dropout", torch::nn::Dropout(s.dropout))) {
    for (int64_t l = 0; l < s.layers; ++l) layers->push_back(block(s));
    const torch::NoGradGuard no_gradient;
    for (auto& parameter : named_parameters())
      if (parameter.value().dim() == 2) parameter.value().normal_(0, 0.02);
  }

  /// Reads B × n tokens after those in `past`, and adds them to it. Returns their hidden states: B × n × width.
  Tensor read(const Tensor& text, memory& past) {
    const auto n = text.size(1), before = past.size();
    const auto real = text != padding;
    past.present = past.present.defined() ? torch::cat({past.present, real}, 1) : real;
    past.keys.resize(layers->size());
    past.values.resize(layers->size());
    // A token attends to itself and to earlier tokens, not to padding.
    const auto place = torch::arange(before, before + n, text.options()),
               all = torch::arange(before + n, text.options());
    const auto later = all.unsqueeze(0) > place.unsqueeze(1), itself = all.unsqueeze(0) == place.unsqueeze(1);
    const auto blocked = (later | (~past.present.unsqueeze(1) & ~itself)).unsqueeze(1);
    auto x = dropout(tokens(text) + places(place));
    for (std::size_t l = 0; l < layers->size(); ++l)
      x = layers->ptr<block_impl>(l)->forward(x, blocked, past.keys[l], past.values[l]);
    return norm(x);
  }

  /// The logits of the next token. It is never padding.
  Tensor next(const Tensor& read) const {
    const auto never = torch::arange(size.vocabulary, tokens->weight.device()) == padding;
    return torch::matmul(read, tokens->weight.t()).masked_fill(never, -1e9);
  }

  /// From now on only a small part is trained: corrections of low rank to the linear maps, biases and scales. With
  /// fewer parameters, less of the KL is spent on the noise of the rewards.
  void adapt(int64_t rank) {
    for (auto& parameter : parameters()) parameter.requires_grad_(parameter.dim() == 1);
    for (const auto& module : modules())
      if (auto* const map = module->as<linear_impl>()) map->adapt(rank);
  }

  gpt_size size;
  torch::nn::Embedding tokens, places;
  torch::nn::ModuleList layers;
  torch::nn::LayerNorm norm;
  torch::nn::Dropout dropout;
};
TORCH_MODULE_IMPL(gpt, gpt_impl);

/// Moves a model's weights w to share·w + (1 − share)·v, where v are the weights of another model. The other model has
/// no corrections; these become share·up.
inline void move_weights(gpt& model, gpt& from, double share) {
  const torch::NoGradGuard no_gradient;
  const auto known = from->named_parameters();
  for (auto& parameter : model->named_parameters())
    if (const Tensor* const same = known.find(parameter.key()))
      parameter.value().lerp_(*same, 1 - share);
    else if (parameter.key().ends_with(".up"))
      parameter.value().mul_(share);
}

/// The hidden states before the first token of each response and after each of its tokens: B × (T + 1) × width, for B =
/// P·M responses, M to each of P prompts, prompt by prompt. Each prompt is read once.
inline Tensor read_responses(gpt& model, const Tensor& prompts, const Tensor& responses) {
  memory past;
  const auto first = model->read(prompts, past).slice(1, -1);
  const auto M = responses.size(0) / prompts.size(0);
  past = past.repeated(M);
  return torch::cat({first.repeat_interleave(M, 0), model->read(responses, past)}, 1);
}

/// log π(y_t | y_<t) of each token of the responses: B × T, with 0 at padding.
inline Tensor log_probabilities(gpt& model, const Tensor& prompts, const Tensor& responses) {
  const auto T = responses.size(1);
  const auto logits = model->next(read_responses(model, prompts, responses).slice(1, 0, T));
  const auto log_p = torch::log_softmax(logits, -1).gather(2, responses.unsqueeze(2)).squeeze(2);
  return log_p.masked_fill(responses == padding, 0);
}

/// Samples M responses of at most T tokens to each of P prompts: P·M × T.
inline Tensor sample(gpt& model, const Tensor& prompts, int64_t M, int64_t T) {
  const torch::NoGradGuard no_gradient;
  memory past;
  auto read = model->read(prompts, past).slice(1, -1).repeat_interleave(M, 0);
  past = past.repeated(M);
  const auto responses = torch::full({prompts.size(0) * M, T}, padding, prompts.options());
  auto running = torch::ones({responses.size(0), 1}, torch::kBool).to(prompts.device());
  for (int64_t t = 0; t < T; ++t) {
    const auto below = torch::cumsum(torch::softmax(model->next(read.squeeze(1)), -1), -1), all = below.slice(1, -1);
    // The first token whose cumulative probability is above it: many times as fast as torch::multinomial.
    const auto drawn = torch::searchsorted(below, torch::rand_like(all) * all, false, true);
    const auto token = drawn.masked_fill(~running, padding);
    responses.slice(1, t, t + 1).copy_(token);
    running = running & (token != end_of_text);
    if (t + 1 == T || !running.any().item<bool>()) break;
    read = model->read(token, past);
  }
  return responses;
}

/// A reward model: one number for a response, from the GPT's hidden state at its last token.
struct reward_model_impl : torch::nn::Module {
  explicit reward_model_impl(const gpt_size& size)
      : trunk(register_module("trunk", gpt(size))), head(register_module("head", torch::nn::Linear(size.width, 1))) {}

  /// The rewards of B = P·M responses to P prompts.
  Tensor forward(const Tensor& prompts, const Tensor& responses) {
    const auto read = read_responses(trunk, prompts, responses);
    const auto last = (responses != padding).sum(1).view({-1, 1, 1}).expand({-1, 1, read.size(2)});
    return head(read.gather(1, last)).flatten();
  }

  gpt trunk;
  torch::nn::Linear head;
};
TORCH_MODULE_IMPL(reward_model, reward_model_impl);

}  // namespace trainer
