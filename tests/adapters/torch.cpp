// SPDX-License-Identifier: MIT
#include <infalign/adapters/torch.hpp>
#include <infalign/adapters/torch.hpp>  // compiles alone, and twice

// A block of its own, so that formatting sorts neither before torch.hpp.
#include <torch/csrc/autograd/autograd.h>
#include <infalign/step/policy_gradient.hpp>

#undef CHECK  // Torch's; Catch2 defines another
#include "catch.hpp"
#include "shards.hpp"

#include <fstream>
#include <string>
#include <tuple>
#include <typeinfo>
#include <utility>
#include <vector>

using namespace infalign;
using torch::Tensor;

namespace {

template <real_scalar S>
constexpr torch::ScalarType dtype = std::same_as<S, float> ? torch::kFloat : torch::kDouble;

Tensor uniform(at::IntArrayRef shape, double low, double high) {
  return low + (high - low) * torch::rand(shape, torch::kDouble);
}

/// The largest distance between two tensors, relative to the largest number of the second.
double distance(const Tensor& a, const Tensor& b) {
  return ((a - b).abs().max() / b.abs().max()).item<double>();
}

/// The relative distance of two losses, but at least relative to 1: their terms have size 1 and may nearly cancel.
double loss_distance(const Tensor& a, const Tensor& b) {
  return ((a - b).abs() / b.abs().clamp_min(1)).item<double>();
}

/// 4 prompts with 3 responses of 70 tokens. The policies differ enough for clipping; masked tokens are NaN.
struct tensors {
  static constexpr std::int64_t P = 4, M = 3, B = 12, T = 70;
  Tensor now, reference, old, sampler, mask, rewards;

  explicit tensors(torch::ScalarType type, std::uint64_t seed = 1) {
    torch::manual_seed(seed);
    now = uniform({B, T}, -3, 0);
    reference = now + uniform({B, T}, -0.1, 0.15);
    old = now + uniform({B, T}, -0.4, 0.4) + uniform({B, 1}, -0.04, 0.04);
    sampler = old + uniform({B, T}, -0.2, 0.2);
    mask = torch::rand({B, T}) < 0.75;
    rewards = uniform({P, M}, -1, 1).to(type);
    for (Tensor* t : {&now, &reference, &old, &sampler}) *t = t->masked_fill(~mask, std::nan("")).to(type);
    now.requires_grad_();
  }

  torch_batch batch(bool off_policy, bool sampled) const {
    torch_batch result{.log_probabilities = now, .reference_log_probabilities = reference, .mask = mask};
    if (off_policy) result.old_log_probabilities = old;
    if (sampled) result.sampler_log_probabilities = sampler;
    return result;
  }
};

// ---- The loss in Torch's operations, from the formulas. No gradient flows through a `.detach()`.

/// The term of a token or a response that is maximised, without the KL term; A has either sign.
Tensor objective(const reinforce&, const Tensor& log_p, const Tensor&, const Tensor& A) {
  return A * log_p;
}
template <ratio_of R>
Tensor objective(const clipped_surrogate<R>& f, const Tensor&, const Tensor& log_ratio, const Tensor& A) {
  const Tensor rho = log_ratio.exp(), worse = torch::min(rho * A, rho.clamp(1 - f.low, 1 + f.high) * A);
  return f.dual > 0 ? torch::where(A < 0, torch::max(worse, f.dual * A), worse) : worse;
}
Tensor objective(const cispo& f, const Tensor& log_p, const Tensor& log_ratio, const Tensor& A) {
  return log_ratio.exp().clamp(1 - f.low, 1 + f.high).detach() * A * log_p;
}

Tensor k2(const Tensor& delta) {
  return delta * delta / 2;
}
Tensor k3(const Tensor& delta) {
  return torch::expm1(-delta) + delta;  // e^{−δ} − 1 + δ
}
Tensor estimate(const k2_loss&, const Tensor& delta) {
  return k2(delta);
}
Tensor estimate(const k2_token_loss&, const Tensor& delta) {
  return k2(delta);
}
Tensor estimate(const k3_loss&, const Tensor& delta) {
  return k3(delta);
}
Tensor estimate(const k3_token_loss&, const Tensor& delta) {
  return k3(delta);
}

/// For each response, the mean over the other responses to its prompt; x has size B.
Tensor mean_of_others(const Tensor& x) {
  const Tensor groups = x.view({-1, tensors::M});
  return ((groups.sum(1, true) - groups) / (tensors::M - 1)).flatten();
}

/// The loss with leave_one_out: the mean over responses of the sum over tokens.
template <class KL, class Surrogate>
Tensor torch_formula(const torch_batch& b, const Tensor& rewards, const KL& kl, const Surrogate& f) {
  constexpr bool by_sequence =
      Surrogate::ratio == ratio_of::sequence || Surrogate::ratio == ratio_of::sequence_geometric_mean;
  const auto counted = [&](const Tensor& x) { return torch::where(b.mask, x, torch::zeros_like(x)); };
  const Tensor now = counted(b.log_probabilities);
  const Tensor old = b.old_log_probabilities.defined() ? counted(b.old_log_probabilities) : now.detach();
  const Tensor delta = now - counted(b.reference_log_probabilities), log_ratio = now - old;
  const auto weight = [&](const Tensor& log_weight) { return log_weight.exp().clamp_max(b.sampler_weight_cap); };
  const Tensor correction = b.sampler_log_probabilities.defined() ? old - counted(b.sampler_log_probabilities)
                                                                  : torch::full_like(now.detach(), 0);
  const Tensor token_weight = weight(correction).detach(), weight_of_all = weight(correction.sum(1)).detach();

  const Tensor R = rewards.flatten();
  const Tensor shaped = kl.place == kl_place::reward || kl.place == kl_place::reward_to_go
                            ? R - kl.beta * delta.detach().sum(1)
                            : R;  // R − β·δ
  const Tensor baseline = mean_of_others(shaped);
  Tensor loss = torch::zeros({}, now.options());
  if constexpr (by_sequence) {
    const Tensor length = b.mask.sum(1), all = log_ratio.sum(1);
    const Tensor x = Surrogate::ratio == ratio_of::sequence ? all : all / length;
    loss = loss - (weight_of_all * objective(f, x, x, shaped - baseline)).mean();
  } else {
    Tensor A = (shaped - baseline).unsqueeze(1).expand_as(now);
    if (kl.place == kl_place::reward_to_go) {  // R − β·Σ_{s ≥ t} δ_s
      const Tensor to_go = delta.detach().flip(1).cumsum(1).flip(1);
      A = R.unsqueeze(1) - kl.beta * to_go - baseline.unsqueeze(1);
    }
    loss = loss - counted(token_weight * objective(f, now, log_ratio, A)).sum(1).mean();
  }
  if constexpr (KL::place == kl_place::sequence_loss)
    loss = loss + kl.beta * (log_ratio.sum(1).exp().detach() * weight_of_all * estimate(kl, delta.sum(1))).mean();
  if constexpr (KL::place == kl_place::token_loss)
    loss = loss + kl.beta * counted(log_ratio.exp().detach() * token_weight * estimate(kl, delta)).sum(1).mean();
  return loss;
}

template <class KL, class Surrogate>
void compare(const KL& kl, const Surrogate& f) {
  constexpr bool off_policy = Surrogate::ratio != ratio_of::nothing;
  const policy_gradient step{kl, leave_one_out{}, f};
  for (const auto type : {torch::kFloat, torch::kDouble})
    for (const bool sampled : {false, true}) {
      const double tolerance = type == torch::kFloat ? 1e-5 : 1e-12;
      const tensors t(type);
      torch_batch batch = t.batch(off_policy, sampled);
      batch.sampler_weight_cap = 1.05;  // caps the weights of some tokens
      const Tensor expected = torch_formula(batch, t.rewards, kl, f);
      const Tensor expected_gradient = torch::autograd::grad({expected}, {t.now})[0];

      const auto out = torch_loss(step, batch, t.rewards);
      out.backward();
      const Tensor gradient = t.now.grad();
      CAPTURE(typeid(KL).name(), type, sampled);
      REQUIRE(out.loss.scalar_type() == type);
      REQUIRE(gradient.scalar_type() == type);
      CHECK(expected_gradient.abs().max().item<double>() > 1e-3);
      CHECK(loss_distance(out.loss, expected) < tolerance);
      CHECK(distance(gradient, expected_gradient) < tolerance);
      CHECK(gradient.masked_select(~t.mask).eq(0).all().item<bool>());
      if (off_policy) {  // the test has clipped and unclipped terms
        CHECK(out.metrics.clip_ratio_low > 0);
        CHECK(out.metrics.clip_ratio_high > 0);
        CHECK(out.metrics.clip_ratio < 1);
      }
    }
}

template <class Surrogate>
void compare_with_every_kl(const Surrogate& f) {
  const auto each = [&](const auto&... kl) { (compare(kl, f), ...); };
  each(no_kl{}, k1_in_reward{0.3}, k2_loss{0.3}, k3_loss{0.3}, k2_token_loss{0.3}, k3_token_loss{0.3});
  if constexpr (Surrogate::ratio == ratio_of::nothing || Surrogate::ratio == ratio_of::token)
    each(k1_reward_to_go{0.3});
}

}  // namespace

// Every KL term with each surrogate, to 1e-5 (float) or 1e-12 (double) of the largest derivative.
TEST_CASE("The gradient equals Torch's of the same loss: reinforce") {
  compare_with_every_kl(reinforce{});
}
TEST_CASE("The gradient equals Torch's of the same loss: ppo_clip") {
  compare_with_every_kl(ppo_clip{.low = 0.2, .high = 0.2});
}
TEST_CASE("The gradient equals Torch's of the same loss: ppo_clip with dual") {
  compare_with_every_kl(ppo_clip{.low = 0.1, .high = 0.3, .dual = 1.2});
}
TEST_CASE("The gradient equals Torch's of the same loss: sequence_clip") {
  compare_with_every_kl(sequence_clip{.low = 0.3, .high = 0.3});
}
TEST_CASE("The gradient equals Torch's of the same loss: gspo_clip") {
  compare_with_every_kl(gspo_clip{.low = 0.02, .high = 0.02});
}
TEST_CASE("The gradient equals Torch's of the same loss: cispo") {
  compare_with_every_kl(cispo{.low = 0.2, .high = 0.2});
}

TEST_CASE("The comparison detects parameters that differ by a thousandth, and another KL") {
  const tensors t(torch::kDouble);
  const torch_batch batch = t.batch(true, false);
  const auto gradient_of = [&](const auto& kl, const auto& f) {
    return torch::autograd::grad({torch_formula(batch, t.rewards, kl, f)}, {t.now})[0];
  };
  torch_loss(policy_gradient{k3_token_loss{0.3}, leave_one_out{}, ppo_clip{}}, batch, t.rewards).backward();
  CHECK(distance(t.now.grad(), gradient_of(k3_token_loss{0.3003}, ppo_clip{})) > 1e-5);
  CHECK(distance(t.now.grad(), gradient_of(k2_token_loss{0.3}, ppo_clip{})) > 1e-5);
  CHECK(distance(t.now.grad(), gradient_of(k3_token_loss{0.3}, ppo_clip{.high = 0.21})) > 1e-5);
  CHECK(distance(t.now.grad(), gradient_of(k3_token_loss{0.3}, ppo_clip{.dual = 1.3})) > 1e-5);
}

// ---- The loss in a trainer

namespace {

const policy_gradient on_policy{k1_in_reward{0.3}, leave_one_out{}};

Tensor gradient_by_formula(const tensors& t) {
  const Tensor loss = torch_formula(t.batch(false, false), t.rewards, k1_in_reward{0.3}, reinforce{});
  return torch::autograd::grad({loss}, {t.now})[0];
}

}  // namespace

TEST_CASE("The gradient of a model's parameters equals Torch's of the same loss") {
  // log π(y_t | y_{t − 1}) of a model with two layers, 11 words and 5 hidden units.
  torch::manual_seed(2);
  const auto options = torch::dtype(torch::kDouble);
  const Tensor words = torch::randint(11, {tensors::B, tensors::T + 1}, torch::kLong);
  const Tensor first = torch::randn({11, 5}, options).requires_grad_(),
               second = torch::randn({5, 11}, options).requires_grad_();
  const tensors given(torch::kDouble);
  const auto log_probabilities = [&] {
    const Tensor logits = torch::embedding(first, words.narrow(1, 0, tensors::T)).tanh().matmul(second);
    return logits.log_softmax(-1).gather(-1, words.narrow(1, 1, tensors::T).unsqueeze(-1)).squeeze(-1);
  };
  const auto batch = [&] {
    const Tensor now = log_probabilities(), held = now.detach();
    return torch_batch{.log_probabilities = now,
                       .reference_log_probabilities = held + (given.reference - given.now).detach(),
                       .mask = given.mask,
                       .old_log_probabilities = held + (given.old - given.now).detach()};
  };
  const Tensor expected_loss = torch_formula(batch(), given.rewards, k2_loss{0.3}, ppo_clip{});
  const auto expected = torch::autograd::grad({expected_loss}, {first, second});
  torch_loss(policy_gradient{k2_loss{0.3}, leave_one_out{}, ppo_clip{}}, batch(), given.rewards).backward();
  CHECK(expected[0].abs().max().item<double>() > 1e-2);
  CHECK(distance(first.grad(), expected[0]) < 1e-12);
  CHECK(distance(second.grad(), expected[1]) < 1e-12);
}

TEST_CASE("A scaled loss has a scaled gradient, and gradients add up") {
  for (const auto type : {torch::kFloat, torch::kDouble}) {
    const double tolerance = type == torch::kFloat ? 1e-5 : 1e-12;
    const tensors t(type);
    const Tensor once = gradient_by_formula(t);
    const auto loss = [&] { return torch_loss(on_policy, t.batch(false, false), t.rewards).loss; };
    (1024 * loss()).backward();  // as with mixed precision
    CHECK(distance(t.now.grad(), 1024 * once) < tolerance);
    (loss() / 4).backward();
    CHECK(distance(t.now.grad(), 1024.25 * once) < tolerance);
    t.now.mutable_grad().zero_();
    const Tensor other = torch::where(t.mask, t.now, torch::zeros_like(t.now)).sum();
    (loss() - 2 * other).backward();
    CHECK(distance(t.now.grad(), once - 2 * t.mask) < tolerance);
  }
}

TEST_CASE("A second backward needs a retained graph, and there is no second derivative") {
  const tensors t(torch::kDouble);
  const Tensor once = gradient_by_formula(t);
  const auto out = torch_loss(on_policy, t.batch(false, false), t.rewards);
  out.loss.backward({}, true);
  CHECK(distance(t.now.grad(), once) < 1e-12);
  out.backward();
  CHECK(distance(t.now.grad(), 2 * once) < 1e-12);
  CHECK(error_of([&] { out.backward(); }).find("a second time") != std::string::npos);  // Torch's error
  CHECK(distance(t.now.grad(), 2 * once) < 1e-12);
  const auto again = torch_loss(on_policy, t.batch(false, false), t.rewards);
  CHECK(error_of([&] { torch::autograd::grad({again.loss}, {t.now}, {}, {}, true); }) ==
        "torch_loss: expected backward without create_graph, as the step gives no second derivative, got create_graph");
}

TEST_CASE("Only log_probabilities has a gradient") {
  tensors t(torch::kDouble);
  for (Tensor* other : {&t.reference, &t.old, &t.sampler, &t.rewards}) other->requires_grad_();
  torch_loss(policy_gradient{k2_loss{0.3}, leave_one_out{}, ppo_clip{}}, t.batch(true, true), t.rewards).backward();
  CHECK(t.now.grad().defined());
  for (const Tensor& other : {t.reference, t.old, t.sampler, t.rewards}) CHECK(!other.grad().defined());
  const torch::NoGradGuard evaluation;
  const auto out = torch_loss(on_policy, t.batch(false, false), t.rewards);
  CHECK(!out.loss.requires_grad());
  CHECK(out.loss.dim() == 0);
  CHECK(out.metrics.sequences == tensors::B);
}

// ---- Views

TEST_CASE("Tensors are viewed without a copy") {
  const auto check = []<real_scalar S>(S) {
    const Tensor t = torch::arange(6, dtype<S>).view({2, 3});
    const auto view = torch_matrix<S>(t);
    CHECK(view.data() == t.data_ptr<S>());
    CHECK(view.rows() == 2);
    CHECK(view.cols() == 3);
    CHECK(view(1, 0) == 3);
    t.select(0, 1).select(0, 0).fill_(7);
    CHECK(view(1, 0) == 7);
    CHECK(torch_matrix<S>(t.narrow(0, 1, 1)).data() == t.data_ptr<S>() + 3);

    const Tensor flat = t.flatten();
    CHECK(torch_matrix<S>(flat).data() == t.data_ptr<S>());
    CHECK(torch_matrix<S>(flat).rows() == 6);
    CHECK(torch_matrix<S>(flat).cols() == 1);
    CHECK(torch_array<S>(flat).data() == t.data_ptr<S>());
    CHECK(torch_array<S>(flat).size() == 6);
    CHECK(torch_matrix<S>(torch::empty({0, 3}, dtype<S>)).cols() == 3);
    CHECK(torch_matrix<S>(t.clone().requires_grad_())(1, 0) == 7);
  };
  check(1.0f);
  check(1.0);
}

TEST_CASE("A matrix becomes a tensor without a copy") {
  const auto check = []<real_scalar S>(S) {
    Tensor rest;
    const S* data = nullptr;
    {
      matrix<S> m{{1, 2, 3}, {4, 5, 6}};
      data = m.data();
      const Tensor t = torch_tensor(std::move(m));
      CHECK(m.size() == 0);
      CHECK(t.data_ptr<S>() == data);
      CHECK(t.sizes() == at::IntArrayRef{2, 3});
      CHECK(t.is_contiguous());
      rest = t[1];
    }
    CHECK(rest.data_ptr<S>() == data + 3);
    CHECK(rest.equal(torch::tensor({4, 5, 6}, dtype<S>)));

    array<S> a{{1, 2}};
    data = a.data();
    const Tensor t = torch_tensor(std::move(a));
    CHECK(t.data_ptr<S>() == data);
    CHECK(t.sizes() == at::IntArrayRef{2});
    CHECK(torch_tensor(matrix<S>(0, 3)).sizes() == at::IntArrayRef{0, 3});
    CHECK(torch_tensor(array<S>()).sizes() == at::IntArrayRef{0});
  };
  check(1.0f);
  check(1.0);
}

TEST_CASE("A matrix that is const or has a name becomes a tensor of its own memory") {
  const auto check = []<real_scalar S>(S) {
    const matrix<S> m{{1, 2, 3}, {4, 5, 6}};
    array<S> a{{1, 2}};
    const Tensor of_matrix = torch_tensor(m), of_array = torch_tensor(a);
    CHECK(of_matrix.sizes() == at::IntArrayRef{2, 3});
    CHECK(of_array.sizes() == at::IntArrayRef{2});
    CHECK(of_matrix.data_ptr<S>() != m.data());
    of_matrix.fill_(7);
    a.setZero();
    CHECK(m(1, 2) == 6);
    CHECK(of_array.equal(torch::tensor({1, 2}, dtype<S>)));
  };
  check(1.0f);
  check(1.0);
}

TEST_CASE("A step reads the batch's tensors without a copy") {
  const auto check = []<real_scalar S>(S) {
    const tensors t(dtype<S>);
    const Tensor bytes = t.mask.to(torch::kByte), prompt = torch::arange(tensors::P).repeat_interleave(tensors::M);
    torch_batch given = t.batch(true, true);
    given.sampler_weight_cap = 1.5;
    int calls = 0;
    const auto look = [&]<class Mask>(const token_batch<S, Mask>& batch, const void* mask) {
      ++calls;
      CHECK(batch.log_probabilities.row(0) == t.now.template data_ptr<S>());
      CHECK(batch.reference_log_probabilities.row(0) == t.reference.template data_ptr<S>());
      CHECK(batch.old_log_probabilities.row(0) == t.old.template data_ptr<S>());
      CHECK(batch.sampler_log_probabilities.row(0) == t.sampler.template data_ptr<S>());
      CHECK(static_cast<const void*>(batch.mask.row(0)) == mask);
      CHECK(batch.mask.row(1) == batch.mask.row(0) + tensors::T);
      CHECK(batch.sampler_weight_cap == 1.5);
      return step_result<S>{0, matrix<S>::Zero(tensors::B, tensors::T), {}};
    };
    // A step of either dtype that only checks its arguments.
    const auto step = [&]<real_scalar X, class Mask>(const token_batch<X, Mask>& batch, const auto&... rest) {
      if constexpr (std::same_as<X, S>) {
        const auto& rewards = std::get<sizeof...(rest) - 2>(std::tie(rest...));
        CHECK(rewards.data() == t.rewards.template data_ptr<S>());
        return look(batch, given.mask.data_ptr());
      } else {
        return step_result<X>{};
      }
    };
    for (const Tensor& mask : {t.mask, bytes, t.mask.to(dtype<S>)}) {
      given.mask = mask;
      torch_loss(step, given, t.rewards);
      torch_loss(step, given, prompt, t.rewards.flatten());
    }
    CHECK(calls == 6);
  };
  check(1.0f);
  check(1.0);
}

TEST_CASE("The result does not depend on the mask's dtype, nor on whether prompts are rows or indices") {
  for (const auto type : {torch::kFloat, torch::kDouble}) {
    const tensors t(type);
    const auto gradient_of = [&](const Tensor& mask, bool by_index) {
      torch_batch batch = t.batch(false, false);
      batch.mask = mask;
      const Tensor prompt = torch::arange(7, 7 + tensors::P).repeat_interleave(tensors::M);
      const auto out = by_index ? torch_loss(on_policy, batch, prompt, t.rewards.flatten())
                                : torch_loss(on_policy, batch, t.rewards);
      return torch::autograd::grad({out.loss}, {t.now})[0];
    };
    const Tensor expected = gradient_of(t.mask, false);
    CHECK(expected.abs().max().item<double>() > 0);
    for (const Tensor& mask : {t.mask, t.mask.to(torch::kByte), t.mask.to(type)})
      for (const bool by_index : {false, true}) CHECK(gradient_of(mask, by_index).equal(expected));
  }
}

TEST_CASE("The losses and gradients of shards add up to those of the batch") {
  // Real shards wait for each other. Here, each shard runs again when the totals of both are known.
  const tensors t(torch::kDouble);
  const auto whole = torch_loss(on_policy, t.batch(false, false), t.rewards);
  array<double> totals;
  const auto shard = [&](std::int64_t first, bool known) {
    int call = 0;
    const auto reduce = [&](Eigen::Ref<array<double>> x, reduce_op) {
      if (call++ > 0) return;
      if (known)
        x = totals;
      else
        totals = totals.size() == 0 ? array<double>(x) : array<double>(totals + x);
    };
    const auto half = [&](const Tensor& x) { return x.narrow(0, first * x.size(0) / 2, x.size(0) / 2); };
    const torch_batch batch{
        .log_probabilities = half(t.now), .reference_log_probabilities = half(t.reference), .mask = half(t.mask)};
    const auto out = torch_loss(on_policy, batch, half(t.rewards), reduce);
    CHECK(call == 4);  // the totals, and three of the metrics
    const Tensor prompt = torch::arange(tensors::P / 2).repeat_interleave(tensors::M);
    call = 0;
    const auto flat = torch_loss(on_policy, batch, prompt, half(t.rewards).flatten(), reduce);
    if (known) CHECK(flat.loss.equal(out.loss));
    return out;
  };
  shard(0, false);
  totals /= 2;  // the shard ran twice: by row and by index
  array<double> first = std::exchange(totals, {});
  shard(1, false);
  totals = totals / 2 + first;
  const auto a = shard(0, true), b = shard(1, true);
  CHECK(distance(a.loss + b.loss, whole.loss) < 1e-12);
  a.backward();
  b.backward();
  CHECK(distance(t.now.grad(), gradient_by_formula(t)) < 1e-12);
}

TEST_CASE("A tensor that is refused in one shard ends the others too") {
  const tensors t(torch::kDouble);
  const Tensor prompt = torch::arange(tensors::P).repeat_interleave(tensors::M);
  for (const bool by_index : {false, true}) {
    std::vector<std::string> errors(3);
    const auto ops = run_shards(3, [&](std::size_t s, const auto& reduce) {
      const Tensor rewards = s == 1 ? t.rewards.to(torch::kFloat) : t.rewards;
      errors[s] = error_of([&] {
        if (by_index)
          torch_loss(on_policy, t.batch(false, false), prompt, rewards.flatten(), reduce);
        else
          torch_loss(on_policy, t.batch(false, false), rewards, reduce);
      });
    });
    CHECK(ops.size() == 1);
    CHECK(errors[1] == "torch_loss: expected rewards of dtype Double, got Float");
    for (const std::size_t s : {0u, 2u})
      CHECK(errors[s] == "torch_loss: expected all shards to succeed, got an error in another shard");
  }
}

// ---- Errors and edge cases

TEST_CASE("A tensor that cannot be viewed is an error that says why") {
  const Tensor t = torch::zeros({2, 3});
  const auto error = [](const Tensor& x) { return error_of([&] { torch_matrix<float>(x); }); };
  CHECK(error({}) == "torch_matrix: expected a tensor, got an undefined tensor");
  CHECK(error(torch::empty({2, 3}, torch::kMeta)) == "torch_matrix: expected a tensor on the CPU, got meta");
  CHECK(error(t.to_sparse()) == "torch_matrix: expected a tensor that is dense, got another layout");
  CHECK(error(t.to(torch::kDouble)) == "torch_matrix: expected a tensor of dtype Float, got Double");
  CHECK(error(t.to(torch::kHalf)) == "torch_matrix: expected a tensor of dtype Float, got Half");
  CHECK(error(torch::zeros({})) == "torch_matrix: expected a tensor of 1 or 2 dimensions, got no dimensions");
  CHECK(error(torch::zeros({2, 3, 4})) == "torch_matrix: expected a tensor of 1 or 2 dimensions, got 2 x 3 x 4");
  CHECK(error(t.t()) ==
        "torch_matrix: expected a tensor contiguous in memory, as t.contiguous() is, got strides [1, 3]");
  CHECK(error_of([&] { torch_matrix<double>(t); }) == "torch_matrix: expected a tensor of dtype Double, got Float");
  CHECK(error_of([&] { torch_array<float>(t); }) == "torch_array: expected a tensor of 1 dimension, got 2 x 3");
  CHECK(error_of([&] { torch_array<float>(t.select(1, 0)); }) ==
        "torch_array: expected a tensor contiguous in memory, as t.contiguous() is, got strides [3]");
}

TEST_CASE("A batch that does not fit is an error that names the tensor") {
  const tensors t(torch::kFloat);
  const Tensor prompt = torch::arange(tensors::B);
  const auto error = [&](auto change, const Tensor& rewards, const Tensor& index = {}) {
    torch_batch batch = t.batch(false, false);
    change(batch);
    return error_of([&] {
      if (index.defined())
        torch_loss(on_policy, batch, index, rewards);
      else
        torch_loss(on_policy, batch, rewards);
    });
  };
  const auto nothing = [](torch_batch&) {};
  CHECK(error(nothing, t.rewards) == "no error");
  CHECK(error([](auto& b) { b.log_probabilities = Tensor(); }, t.rewards) ==
        "torch_loss: expected log_probabilities, got an undefined tensor");
  CHECK(error([](auto& b) { b.log_probabilities = b.log_probabilities.to(torch::kHalf); }, t.rewards) ==
        "torch_loss: expected log_probabilities of dtype Float or Double, got Half");
  CHECK(error([](auto& b) { b.log_probabilities = b.log_probabilities.to(torch::kMeta); }, t.rewards) ==
        "torch_loss: expected log_probabilities on the CPU, got meta");
  CHECK(error([](auto& b) { b.reference_log_probabilities = b.reference_log_probabilities.to(torch::kDouble); },
              t.rewards) == "torch_loss: expected reference_log_probabilities of dtype Float, got Double");
  CHECK(error([](auto& b) { b.old_log_probabilities = b.log_probabilities.t(); }, t.rewards) ==
        "torch_loss: expected old_log_probabilities contiguous in memory, as t.contiguous() is, got strides [1, "
        "70]");
  CHECK(error(
            [](auto& b) {
              b.sampler_log_probabilities = torch::zeros({1, 2, 3});
            },
            t.rewards) == "torch_loss: expected sampler_log_probabilities of 1 or 2 dimensions, got 1 x 2 x 3");
  CHECK(error([](auto& b) { b.mask = b.mask.to(torch::kLong); }, t.rewards) ==
        "torch_loss: expected mask of dtype Bool, Byte or Float, got Long");
  CHECK(error([](auto& b) { b.mask = b.mask.to(torch::kMeta); }, t.rewards) ==
        "torch_loss: expected mask on the CPU, got meta");
  CHECK(error([](auto& b) { b.mask = b.mask.t(); }, t.rewards) ==
        "torch_loss: expected mask contiguous in memory, as t.contiguous() is, got strides [1, 70]");
  CHECK(error([](auto& b) { b.mask = torch::full_like(b.mask, 2, torch::kByte); }, t.rewards) ==
        "policy_gradient: expected a mask of 0 and 1, got 2 at row 0, column 0");
  CHECK(error([](auto& b) { b.mask = b.mask.narrow(0, 0, 3); }, t.rewards) ==
        "policy_gradient: expected mask of 12 x 70, got 3 x 70");
  CHECK(error(nothing, {}) == "torch_loss: expected rewards, got an undefined tensor");
  CHECK(error(nothing, t.rewards.to(torch::kDouble)) == "torch_loss: expected rewards of dtype Float, got Double");
  CHECK(error(nothing, t.rewards.narrow(0, 0, 2)) ==
        "policy_gradient: expected 12 rewards, one for each row of log_probabilities, got 6");
  CHECK(error(nothing, t.rewards, prompt) == "torch_loss: expected rewards of 1 dimension, got 4 x 3");
  CHECK(error(nothing, t.rewards.flatten(), prompt.to(torch::kInt)) ==
        "torch_loss: expected prompt of dtype Long, got Int");
  CHECK(error(nothing, t.rewards.flatten(), prompt.narrow(0, 0, 5)) ==
        "policy_gradient: expected 12 prompt indices, one for each reward, got 5");
}

TEST_CASE("Unscored responses and responses without unmasked tokens have gradient 0, and do not affect others") {
  const tensors t(torch::kDouble);
  t.rewards[1][2].fill_(std::nan(""));
  t.mask[3].fill_(false);
  CHECK(error_of([&] { torch_loss(on_policy, t.batch(false, false), t.rewards); }) ==
        "policy_gradient: expected rewards that are numbers, got NaN at row 1, column 2");
  const policy_gradient step{no_kl{}, leave_one_out{}, reinforce{}, sequence_mean_of_token_sums{}, unscored::propagate};
  const auto out = torch_loss(step, t.batch(false, false), t.rewards);
  out.backward();
  const Tensor gradient = t.now.grad(), other = torch::cat({gradient.narrow(0, 0, 3), gradient.slice(0, 6)});
  CHECK(out.loss.isfinite().item<bool>());
  CHECK(out.metrics.sequences == 11);
  CHECK(gradient.isfinite().all().item<bool>());
  CHECK(gradient[5].eq(0).all().item<bool>());  // row 1, column 2
  CHECK(gradient[3].eq(0).all().item<bool>());
  // Response 4 is compared only with response 3, which has no tokens: −(R_4 − R_3) / 11 at each of its tokens.
  const double expected = (t.rewards[1][0] - t.rewards[1][1]).item<double>() / 11;
  CHECK(gradient[4].masked_select(t.mask[4]).sub(expected).abs().max().item<double>() < 1e-15);
  CHECK(other.ne(0).sum(1).eq(torch::cat({t.mask.narrow(0, 0, 3), t.mask.slice(0, 6)}).sum(1)).all().item<bool>());
}

TEST_CASE("A batch may have one token per response, as a column or flat, or no responses") {
  // −A/B with A = R − (the other's R).
  const Tensor rewards = torch::tensor({{1.0, 3.0}, {0.0, -1.0}}, torch::kDouble);
  const Tensor expected = torch::tensor({2.0, -2.0, -1.0, 1.0}, torch::kDouble) / 4;
  const policy_gradient step{no_kl{}, leave_one_out{}};
  for (const auto& shape : {std::vector<std::int64_t>{4, 1}, {4}}) {
    const Tensor now = torch::full(shape, -0.5, torch::kDouble).requires_grad_();
    torch_loss(step, {.log_probabilities = now, .mask = torch::ones(shape, torch::kBool)}, rewards).backward();
    CHECK(now.grad().sizes() == now.sizes());
    CHECK(now.grad().flatten().equal(expected));
  }
  const Tensor none = torch::zeros({0, 5}, torch::kDouble).requires_grad_();
  const auto out = torch_loss(step, {.log_probabilities = none}, torch::zeros({0, 2}, torch::kDouble));
  out.backward();
  CHECK(out.loss.item<double>() == 0);
  CHECK(none.grad().sizes() == none.sizes());
}

TEST_CASE("The README's fragment trains") {
  const tensors t(torch::kFloat);
  const Tensor &now = t.now, &before = t.reference, &mask = t.mask, &rewards = t.rewards;
  const policy_gradient step{k1_in_reward{0.3}, leave_one_out{}};
#include "readme_torch.inc"
  CHECK(distance(now.grad(), gradient_by_formula(t)) < 1e-5);
}

#ifdef __linux__
TEST_CASE("Memory is steady over 1,000 steps") {
  const auto resident = [] {  // in KiB
    std::ifstream status("/proc/self/status");
    for (std::string line; std::getline(status, line);)
      if (line.starts_with("VmRSS:")) return std::stod(line.substr(6));
    return 0.0;
  };
  torch::manual_seed(3);
  const Tensor logits = torch::randn({32, 128, 8}).requires_grad_();
  const policy_gradient step{k1_in_reward{0.3}, leave_one_out{}, ppo_clip{}};
  const auto train = [&](int steps) {
    for (int i = 0; i < steps; ++i) {
      const Tensor now = logits.log_softmax(-1).select(-1, 0).contiguous(), held = now.detach();
      const torch_batch batch{.log_probabilities = now,
                              .reference_log_probabilities = held + 0.1,
                              .mask = torch::rand({32, 128}) < 0.9,
                              .old_log_probabilities = held.clone()};
      torch_loss(step, batch, torch_tensor(matrix<float>(matrix<float>::Random(8, 4)))).backward();
      logits.mutable_grad().zero_();
    }
  };
  train(100);
  const double before = resident();
  train(1000);
  const double grown = resident() - before;  // a leak of one gradient per step would be 16,000 KiB
  CAPTURE(before, grown);
  CHECK(before > 0);
  CHECK(grown < 1024);
}
#endif
