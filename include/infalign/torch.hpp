// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/step_result.hpp>
#include <infalign/token_batch.hpp>

#include <torch/csrc/autograd/custom_function.h>
#include <torch/types.h>

#include <memory>
#include <utility>

/// LibTorch: tensors as the library's matrices and back without a copy, and the step as a loss that Torch
/// differentiates. Needs LibTorch 1.13 or newer, and is included by its own name, never by infalign.hpp.
///
/// Tensors are dense, contiguous and on the CPU; from another device pass `t.cpu()`, through which Torch's gradient
/// goes back to where t is.
namespace infalign {

namespace detail {

template <class T>
inline constexpr torch::ScalarType torch_type = c10::CppTypeToScalarType<T>::value;

inline std::string shape_of(const torch::Tensor& t) {
  std::string result = t.dim() == 0 ? "no dimensions" : std::to_string(t.size(0));
  for (std::int64_t i = 1; i < t.dim(); ++i) result += text(" x ", t.size(i));
  return result;
}

/// Throws unless `t` is a dense CPU tensor, contiguous, of T's dtype, and of one dimension or at most `dimensions`.
template <class T>
const T* torch_data(const char* function, const char* what, const torch::Tensor& t, int dimensions) {
  if (!t.defined()) fail(function, what, "an undefined tensor");
  if (!t.device().is_cpu()) fail(function, text(what, " on the CPU"), t.device().str());
  if (t.layout() != torch::kStrided) fail(function, text(what, " that is dense"), "another layout");
  if (t.scalar_type() != torch_type<T>)
    fail(function, text(what, " of dtype ", c10::toString(torch_type<T>)), c10::toString(t.scalar_type()));
  if (t.dim() < 1 || t.dim() > dimensions)
    fail(function, text(what, dimensions == 1 ? " of 1 dimension" : " of 1 or 2 dimensions"), shape_of(t));
  if (!t.is_contiguous())
    fail(function, text(what, " contiguous in memory, as t.contiguous() is"), text("strides ", c10::str(t.strides())));
  return t.data_ptr<T>();
}

inline Eigen::Index torch_columns(const torch::Tensor& t) {
  return t.dim() == 1 ? 1 : t.size(1);
}

template <real_scalar S>
Eigen::Map<const matrix<S>> torch_matrix(const char* function, const char* what, const torch::Tensor& t) {
  const S* const data = torch_data<S>(function, what, t, 2);
  return {data, t.size(0), torch_columns(t)};
}

template <class T>
Eigen::Map<const Eigen::Array<T, Eigen::Dynamic, 1>> torch_array(const char* function, const char* what,
                                                                 const torch::Tensor& t) {
  const T* const data = torch_data<T>(function, what, t, 1);
  return {data, t.size(0)};
}

/// A tensor over the buffer of what it then owns.
template <class E>
torch::Tensor torch_owner(E&& values, at::IntArrayRef shape) {
  const auto owned = std::make_shared<E>(std::move(values));  // ends with the deleter, even where there is no data
  return torch::from_blob(
      owned->data(), shape, [owned](void*) {}, torch::dtype(torch_type<typename E::Scalar>));
}

}  // namespace detail

/// A view of a tensor of dtype S: its rows and columns, or one column if it has one dimension. The tensor must outlive
/// it. Throws for an undefined tensor, and one on another device, of another dtype, of another rank, or not contiguous.
template <real_scalar S>
Eigen::Map<const matrix<S>> torch_matrix(const torch::Tensor& t) {
  return detail::torch_matrix<S>("torch_matrix", "a tensor", t);
}

/// The same of a tensor of one dimension.
template <real_scalar S>
Eigen::Map<const array<S>> torch_array(const torch::Tensor& t) {
  return detail::torch_array<S>("torch_array", "a tensor", t);
}

/// A tensor, rows × columns, that takes over the matrix's buffer.
template <real_scalar S>
torch::Tensor torch_tensor(matrix<S>&& values) {
  const std::int64_t shape[] = {values.rows(), values.cols()};
  return detail::torch_owner(std::move(values), shape);
}

/// The same, of one dimension.
template <real_scalar S>
torch::Tensor torch_tensor(array<S>&& values) {
  const std::int64_t shape[] = {values.size()};
  return detail::torch_owner(std::move(values), shape);
}

/// A `token_batch` of tensors, all B × T and of the dtype of `log_probabilities`, float or double; they are read in
/// place. What is optional may be left undefined.
///
///     torch_batch batch{.log_probabilities = now, .reference_log_probabilities = reference, .mask = mask};
struct torch_batch {
  /// log π_θ(y_t | y_<t), with Torch's graph behind it; of one dimension if T = 1.
  torch::Tensor log_probabilities;
  /// log π_ref. Optional without a KL term.
  torch::Tensor reference_log_probabilities = {};
  /// 1 where a token counts, else 0: bool, uint8, or of the dtype of `log_probabilities`. Optional: all count.
  torch::Tensor mask = {};
  /// log π_old. Optional: on-policy.
  torch::Tensor behavior_log_probabilities = {};
  /// log-probabilities as the sampling engine gave them. Optional.
  torch::Tensor sampler_log_probabilities = {};
  /// The cap of the weight π_old/π_sampler.
  double sampler_weight_cap = 2;
};

/// What `torch_loss` returns: the step's loss, a tensor of no dimensions with a gradient by the batch's
/// log_probabilities alone, and its metrics.
struct torch_step_loss {
  torch::Tensor loss;
  step_metrics metrics;

  void backward() const { loss.backward(); }
};

namespace detail {

/// The loss as a function of the log-probabilities, with the derivative that the step found.
struct torch_step_function : torch::autograd::Function<torch_step_function> {
  static torch::Tensor forward(torch::autograd::AutogradContext* context, const torch::Tensor& log_probabilities,
                               const torch::Tensor& gradient, double loss) {
    context->save_for_backward({gradient});
    return torch::scalar_tensor(loss, log_probabilities.options());
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& by_loss) {
    if (c10::GradMode::is_enabled())
      fail("torch_loss", "backward without create_graph, as the step gives no second derivative", "create_graph");
    return {by_loss[0] * context->get_saved_variables()[0], torch::Tensor(), torch::Tensor()};
  }
};

template <real_scalar S, class Mask, class Run>
torch_step_loss torch_run(const torch_batch& tensors, const Mask* mask, const Run& run) {
  const torch::Tensor& now = tensors.log_probabilities;
  const auto view = [](const char* what, const torch::Tensor& t) {
    return t.defined() ? matrix_view<S>(torch_matrix<S>("torch_loss", what, t)) : matrix_view<S>();
  };
  token_batch<S, Mask> batch{
      .log_probabilities = view("log_probabilities", now),
      .reference_log_probabilities = view("reference_log_probabilities", tensors.reference_log_probabilities),
      .behavior_log_probabilities = view("behavior_log_probabilities", tensors.behavior_log_probabilities),
      .sampler_log_probabilities = view("sampler_log_probabilities", tensors.sampler_log_probabilities),
      .sampler_weight_cap = tensors.sampler_weight_cap};
  if (tensors.mask.defined()) {
    const auto columns = torch_columns(tensors.mask);
    batch.mask = {mask, tensors.mask.size(0), columns, columns};
  }
  step_result<S> out = run(batch);
  const torch::Tensor gradient = torch_tensor(std::move(out.gradient)).view(now.sizes());
  return {torch_step_function::apply(now, gradient, out.loss), out.metrics};
}

/// The same for the mask's dtype. A bool is a byte of 0 or 1.
template <real_scalar S, class Run>
torch_step_loss torch_run(const torch_batch& batch, const Run& run) {
  const torch::Tensor& mask = batch.mask;
  if (!mask.defined()) return torch_run<S, S>(batch, nullptr, run);
  switch (mask.scalar_type()) {
    case torch::kBool: {
      const auto* const data = torch_data<bool>("torch_loss", "mask", mask, 2);
      return torch_run<S, std::uint8_t>(batch, reinterpret_cast<const std::uint8_t*>(data), run);
    }
    case torch::kByte:
      return torch_run<S, std::uint8_t>(batch, torch_data<std::uint8_t>("torch_loss", "mask", mask, 2), run);
    case torch_type<S>:
      return torch_run<S, S>(batch, torch_data<S>("torch_loss", "mask", mask, 2), run);
    default:
      fail("torch_loss", text("mask of dtype Bool, Byte or ", c10::toString(torch_type<S>)),
           c10::toString(mask.scalar_type()));
  }
}

/// The same for the dtype of log_probabilities.
template <class Run>
torch_step_loss torch_run(const torch_batch& batch, const Run& run) {
  const torch::Tensor& now = batch.log_probabilities;
  if (!now.defined()) fail("torch_loss", "log_probabilities", "an undefined tensor");
  if (now.scalar_type() == torch::kFloat) return torch_run<float>(batch, run);
  if (now.scalar_type() == torch::kDouble) return torch_run<double>(batch, run);
  fail("torch_loss", "log_probabilities of dtype Float or Double", c10::toString(now.scalar_type()));
}

}  // namespace detail

/// The step's loss, for Torch to differentiate: `torch_loss(step, batch, rewards).backward()`, or with the loss scaled
/// or added to others first. The graph is gone through once, unless Torch is told to retain it; with create_graph,
/// backward throws, for the step gives no second derivative.
///
/// rewards: P × M, the responses to a prompt in a row, B = P·M; or B for a baseline that needs no groups. They are held
/// constant, and of the dtype of log_probabilities. reduce: as in `policy_gradient`, for one shard of a batch; the
/// gradient is then to be added over the shards, not averaged. Throws as `torch_matrix` and the step do.
template <class Step, reduction Reduce = whole_batch>
torch_step_loss torch_loss(const Step& step, const torch_batch& batch, const torch::Tensor& rewards,
                           const Reduce& reduce = {}) {
  return detail::torch_run(batch, [&]<real_scalar S, class Mask>(const token_batch<S, Mask>& views) {
    return step(views, detail::torch_matrix<S>("torch_loss", "rewards", rewards), reduce);
  });
}

/// The same for a flat batch. prompt: B of int64, equal for responses to one prompt. rewards: B.
template <class Step, reduction Reduce = whole_batch>
torch_step_loss torch_loss(const Step& step, const torch_batch& batch, const torch::Tensor& prompt,
                           const torch::Tensor& rewards, const Reduce& reduce = {}) {
  return detail::torch_run(batch, [&]<real_scalar S, class Mask>(const token_batch<S, Mask>& views) {
    return step(views, detail::torch_array<std::int64_t>("torch_loss", "prompt", prompt),
                detail::torch_array<S>("torch_loss", "rewards", rewards), reduce);
  });
}

}  // namespace infalign
