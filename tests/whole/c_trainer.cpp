// SPDX-License-Identifier: MIT
// The step in a trainer that is written in C and knows cross-entropy losses only: it gives −log p of each token, and
// back-propagates what it is given as d loss / d (−log p).
#include <infalign/infalign.hpp>

#include "arrays.hpp"

#include <cmath>
#include <span>
#include <vector>

// ---- The trainer: plain buffers, and no word of rewards

extern "C" {

/// A bigram model: the logits of a token are the row of `weights` of the token before it.
struct bigram {
  int vocabulary;
  double* weights;   // V x V
  double* gradient;  // V x V, of the weights
};

/// A batch of B responses of up to T tokens. Token 0 of a row is the prompt.
struct responses {
  int rows, length;   // B, T
  const int* tokens;  // B x (T + 1)
};

/// The probability of v after the token `before`.
static double bigram_probability(const bigram* model, int before, int v) {
  const double* logits = model->weights + before * model->vocabulary;
  double sum = 0;
  for (int w = 0; w < model->vocabulary; ++w) sum += std::exp(logits[w] - logits[v]);
  return 1 / sum;
}

/// losses: B x T, −log p of each token.
static void bigram_forward(const bigram* model, const responses* batch, double* losses) {
  for (int i = 0; i < batch->rows; ++i)
    for (int t = 0; t < batch->length; ++t) {
      const int* token = batch->tokens + i * (batch->length + 1) + t;
      losses[i * batch->length + t] = -std::log(bigram_probability(model, token[0], token[1]));
    }
}

/// Adds to the gradient. d_losses: B x T, d loss / d (−log p) of each token.
///
///     d loss / d logit_v = Σ_t d_losses_t·(p_v − 1{v = token_t})
static void bigram_backward(const bigram* model, const responses* batch, const double* d_losses) {
  for (int i = 0; i < batch->rows; ++i)
    for (int t = 0; t < batch->length; ++t) {
      const int* token = batch->tokens + i * (batch->length + 1) + t;
      for (int v = 0; v < model->vocabulary; ++v)
        model->gradient[token[0] * model->vocabulary + v] +=
            d_losses[i * batch->length + t] * (bigram_probability(model, token[0], v) - (v == token[1] ? 1 : 0));
    }
}

}  // extern "C"

using namespace infalign;

namespace {

constexpr int V = 5, P = 2, M = 3, K = 4, B = P * M, T = 3;
constexpr double rate = 4, beta = 0.3;

/// The trainer's buffers, in the memory that a C program would allocate.
struct run {
  std::vector<double> weights, weight_gradient = std::vector<double>(V * V, 0.0);
  std::vector<int> tokens{0, 1, 2, 3, 0, 2, 2, 4, 0, 3, 1, 1,   // responses to the prompt 0
                          1, 4, 4, 2, 1, 0, 3, 3, 1, 2, 0, 4};  // and to the prompt 1
  std::vector<unsigned char> mask{1, 1, 1, 1, 1, 0, 1, 0, 0, 1, 1, 1, 1, 1, 0, 1, 1, 1};
  std::vector<int> prompt{0, 0, 0, 1, 1, 1};
  std::vector<double> rewards{0.45, 0.15, 0.30, -10, 90, -100};                  // of the responses
  std::vector<double> reference_rewards{0.1, 0.2, 0.3, 0.4, -90, -10, -10, 20};  // P x K
  std::vector<double> losses = std::vector<double>(B * T), reference_losses = losses, d_losses = losses;

  explicit run(double seed) : weights(V * V) {
    for (int k = 0; k < V * V; ++k) weights[std::size_t(k)] = std::sin(seed * (k + 1));
  }
  bigram model() { return {V, weights.data(), weight_gradient.data()}; }
  responses batch() const { return {B, T, tokens.data()}; }
};

/// One step of training without the update of the weights.
void step_of_training(run& r) {
  const bigram model = r.model();
  const responses batch = r.batch();
  bigram_forward(&model, &batch, r.losses.data());

  // glue begins
  // The trainer's loss is −log p, so its buffers are negated on the way in, and the gradient on the way out:
  // d loss / d (−log p) = −(d loss / d log p). A view is {data, rows, columns, stride}.
  std::vector<double> now(B * T), reference(B * T);
  for (std::size_t k = 0; k < now.size(); ++k) now[k] = -r.losses[k], reference[k] = -r.reference_losses[k];
  const token_batch<double, unsigned char> tokens{.log_probabilities = {now.data(), B, T, T},
                                                  .reference_log_probabilities = {reference.data(), B, T, T},
                                                  .mask = {r.mask.data(), B, T, T}};
  const auto shape = calibration{Eigen::Map<const matrix<double>>(r.reference_rewards.data(), P, K)} |
                     normalized_exponential{.t = rate};
  const policy_gradient step{k1_in_reward{.beta = beta}, leave_one_out{}};
  const auto out = step(tokens, r.prompt, shape(r.prompt, std::span<const double>(r.rewards)));
  for (std::size_t k = 0; k < now.size(); ++k) r.d_losses[k] = -out.gradient.data()[k];
  // glue ends

  bigram_backward(&model, &batch, r.d_losses.data());
}

/// log p of response i, its masked tokens left out.
double log_probability(run& r, int i) {
  const bigram model = r.model();
  double sum = 0;
  for (int t = 0; t < T; ++t)
    if (r.mask[std::size_t(i * T + t)])
      sum += std::log(bigram_probability(&model, r.tokens[std::size_t(i * (T + 1) + t)],
                                         r.tokens[std::size_t(i * (T + 1) + t + 1)]));
  return sum;
}

/// The advantages, with loops: calibrated by counts, transformed, less β·δ, less the mean of the other responses.
std::vector<double> advantages_of(run& r, run& reference) {
  std::vector<double> shaped, result;
  for (int i = 0; i < B; ++i) {
    double u = 0;
    for (int k = 0; k < K; ++k) {
      const double z = r.reference_rewards[std::size_t(i / M * K + k)], reward = r.rewards[std::size_t(i)];
      u += (z < reward ? 1.0 : z > reward ? 0.0 : 0.5) / K;
    }
    shaped.push_back((std::exp(rate * u) - 1) / (std::exp(rate) - 1) -
                     beta * (log_probability(r, i) - log_probability(reference, i)));
  }
  for (int i = 0; i < B; ++i) {
    double others = 0;
    for (int j = i / M * M; j < i / M * M + M; ++j)
      if (j != i) others += shaped[std::size_t(j)] / (M - 1);
    result.push_back(shaped[std::size_t(i)] - others);
  }
  return result;
}

/// A run whose reference is another model.
run trained_away_from(run& reference) {
  run r(0.7);
  const bigram model = reference.model();
  const responses batch = reference.batch();
  bigram_forward(&model, &batch, r.reference_losses.data());
  return r;
}

}  // namespace

TEST_CASE("The gradient of the weights of a C trainer is that of the mean of -A log p") {
  run reference(1.3), r = trained_away_from(reference);
  const auto advantages = advantages_of(r, reference);  // held fixed
  step_of_training(r);
  const auto loss = [&] {
    double sum = 0;
    for (int i = 0; i < B; ++i) sum -= advantages[std::size_t(i)] * log_probability(r, i) / B;
    return sum;
  };
  double squares = 0;
  for (std::size_t k = 0; k < r.weights.size(); ++k) {
    const double at = r.weights[k], h = 1e-5;
    r.weights[k] = at + h;
    const double above = loss();
    r.weights[k] = at - h;
    const double below = loss();
    r.weights[k] = at;
    CHECK(r.weight_gradient[k] == near((above - below) / (2 * h), 1e-9));
    squares += r.weight_gradient[k] * r.weight_gradient[k];
  }
  CHECK(squares > 0.01);
  for (std::size_t k = 0; k < r.mask.size(); ++k)
    if (!r.mask[k]) CHECK(r.d_losses[k] == 0);
}

TEST_CASE("A step downhill makes the best response to each prompt more probable, and the worst less") {
  run reference(0.7), r = trained_away_from(reference);  // the first step: the policy is the reference
  const int best[] = {0, 4}, worst[] = {1, 5};
  std::vector<double> before;
  for (int i = 0; i < B; ++i) before.push_back(log_probability(r, i));
  step_of_training(r);
  for (std::size_t k = 0; k < r.weights.size(); ++k) r.weights[k] -= 0.1 * r.weight_gradient[k];
  for (int p = 0; p < P; ++p) {
    CHECK(log_probability(r, best[p]) > before[std::size_t(best[p])] + 1e-3);
    CHECK(log_probability(r, worst[p]) < before[std::size_t(worst[p])] - 1e-3);
  }
}
