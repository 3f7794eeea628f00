// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/detail/shards.hpp>
#include <infalign/step/step_result.hpp>
#include <infalign/step/token_batch.hpp>

#include <torch/csrc/autograd/custom_function.h>
#include <torch/types.h>

#include <memory>
#include <utility>

#include <infalign/detail/begin.hpp>

/// \file
/// LibTorch: tensors as matrices and back without a copy, and the step as a loss that Torch differentiates. Needs
/// LibTorch 1.13 or newer; infalign.hpp does not include it.
///
/// Tensors must be dense, contiguous and on the CPU. From another device, pass `t.cpu()`; Torch propagates the gradient
/// back to the device.
namespace INFALIGN_NAMESPACE {

namespace detail {

/// The dtype of a scalar type.
template <class T>
inline constexpr torch::ScalarType torch_type = c10::CppTypeToScalarType<T>::value;

inline std::string shape_of(const torch::Tensor& t) {
  std::string result = t.dim() == 0 ? "no dimensions" : std::to_string(t.size(0));
  for (std::int64_t i = 1; i < t.dim(); ++i) result += concat(" x ", t.size(i));
  return result;
}

/// The buffer of a tensor. Throws unless t is dense, contiguous, on the CPU, of T's dtype, and has 1 to `dimensions`
/// dimensions.
template <class T>
const T* torch_data(const char* function, const char* what, const torch::Tensor& t, int dimensions) {
  if (!t.defined()) fail(function, what, "an undefined tensor");
  if (!t.device().is_cpu()) fail(function, concat(what, " on the CPU"), t.device().str());
  if (t.layout() != torch::kStrided) fail(function, concat(what, " that is dense"), "another layout");
  if (t.scalar_type() != torch_type<T>)
    fail(function, concat(what, " of dtype ", c10::toString(torch_type<T>)), c10::toString(t.scalar_type()));
  if (t.dim() < 1 || t.dim() > dimensions)
    fail(function, concat(what, dimensions == 1 ? " of 1 dimension" : " of 1 or 2 dimensions"), shape_of(t));
  if (!t.is_contiguous())
    fail(function, concat(what, " contiguous in memory, as t.contiguous() is"),
         concat("strides ", c10::str(t.strides())));
  return t.data_ptr<T>();
}

inline Eigen::Index torch_columns(const torch::Tensor& t) {
  return t.dim() == 1 ? 1 : t.size(1);
}

template <real_scalar S>
Eigen::Map<const matrix<S>> named_torch_matrix(const char* function, const char* what, const torch::Tensor& t) {
  const S* const data = torch_data<S>(function, what, t, 2);
  return {data, t.size(0), torch_columns(t)};
}

template <class T>
Eigen::Map<const Eigen::Array<T, Eigen::Dynamic, 1>> named_torch_array(const char* function, const char* what,
                                                                       const torch::Tensor& t) {
  const T* const data = torch_data<T>(function, what, t, 1);
  return {data, t.size(0)};
}

/// A tensor that views the buffer of an Eigen object and owns the object.
template <class E>
torch::Tensor torch_owner(E&& values, at::IntArrayRef shape) {
  const auto owned = std::make_shared<E>(std::move(values));  // destroyed with the deleter, even if it is empty
  return torch::from_blob(
      owned->data(), shape, [owned](void*) {}, torch::dtype(torch_type<typename E::Scalar>));
}

}  // namespace detail

/// Views a tensor as a matrix, or as one column if it has one dimension. The tensor must outlive the view.
///
/// Errors: if the tensor is undefined, sparse, not contiguous, not on the CPU, not of dtype S, or not of 1 or 2
/// dimensions.
template <real_scalar S>
Eigen::Map<const matrix<S>> torch_matrix(const torch::Tensor& t) {
  return detail::named_torch_matrix<S>("torch_matrix", "a tensor", t);
}

/// Views a tensor of one dimension as a column. Errors: as `torch_matrix`.
template <real_scalar S>
Eigen::Map<const array<S>> torch_array(const torch::Tensor& t) {
  return detail::named_torch_array<S>("torch_array", "a tensor", t);
}

/// Moves a matrix into a tensor, rows × columns, without copying its buffer.
template <real_scalar S>
torch::Tensor torch_tensor(matrix<S>&& values) {
  const std::int64_t shape[] = {values.rows(), values.cols()};
  return detail::torch_owner(std::move(values), shape);
}

/// Moves a column into a tensor of one dimension, without copying its buffer.
template <real_scalar S>
torch::Tensor torch_tensor(array<S>&& values) {
  const std::int64_t shape[] = {values.size()};
  return detail::torch_owner(std::move(values), shape);
}

/// Copies a matrix that is to be kept into a tensor, rows × columns.
template <real_scalar S>
torch::Tensor torch_tensor(const matrix<S>& values) {
  return torch_tensor(matrix<S>(values));
}

/// Copies a column that is to be kept into a tensor of one dimension.
template <real_scalar S>
torch::Tensor torch_tensor(const array<S>& values) {
  return torch_tensor(array<S>(values));
}

/// A `token_batch` of tensors, which are read without a copy. An optional tensor may be undefined.
///
///     torch_batch batch{.log_probabilities = now, .reference_log_probabilities = reference, .mask = mask};
///
/// Shapes: each tensor B × T, or B if T = 1; all of the dtype of `log_probabilities`, float or double.
struct torch_batch {
  /// B × T: log π_θ(y_t | y_<t), with Torch's graph.
  torch::Tensor log_probabilities;
  /// B × T: log π_ref. Optional if there is no KL term.
  torch::Tensor reference_log_probabilities = {};
  /// B × T: 1 if a token is unmasked, 0 if it is masked. Its dtype may also be bool or uint8. Optional: by default, all
  /// tokens are unmasked.
  torch::Tensor mask = {};
  /// B × T: log π_old. Optional: by default, π_old = π_θ (on-policy).
  torch::Tensor old_log_probabilities = {};
  /// B × T: log π_sampler as the sampling engine reported it. Optional.
  torch::Tensor sampler_log_probabilities = {};
  /// The cap of the weight π_old/π_sampler, as in `token_batch`.
  double sampler_weight_cap = 2;
};

/// The result of `torch_loss`.
struct torch_step_loss {
  /// The loss, of no dimensions. Only the batch's log_probabilities get a gradient from it.
  torch::Tensor loss;
  /// The step's metrics.
  step_metrics metrics;

  /// Computes the gradient: loss.backward().
  void backward() const { loss.backward(); }
};

namespace detail {

/// The loss as a function of the log-probabilities, with the gradient from the step.
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

/// Runs the step on views of the tensors. mask: the mask's buffer, if the mask is defined.
template <real_scalar S, class Mask, class Run>
torch_step_loss torch_run(const torch_batch& tensors, const Mask* mask, const Run& run) {
  const torch::Tensor& now = tensors.log_probabilities;
  const auto view = [](const char* what, const torch::Tensor& t) {
    return t.defined() ? matrix_view<S>(named_torch_matrix<S>("torch_loss", what, t)) : matrix_view<S>();
  };
  token_batch<S, Mask> batch{
      .log_probabilities = view("log_probabilities", now),
      .reference_log_probabilities = view("reference_log_probabilities", tensors.reference_log_probabilities),
      .old_log_probabilities = view("old_log_probabilities", tensors.old_log_probabilities),
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

/// Chooses the mask's scalar type by its dtype. (A bool is a byte of 0 or 1.)
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
      fail("torch_loss", concat("mask of dtype Bool, Byte or ", c10::toString(torch_type<S>)),
           c10::toString(mask.scalar_type()));
  }
}

/// Chooses S by the dtype of log_probabilities.
template <class Run>
torch_step_loss torch_run(const torch_batch& batch, const Run& run) {
  const torch::Tensor& now = batch.log_probabilities;
  if (!now.defined()) fail("torch_loss", "log_probabilities", "an undefined tensor");
  if (now.scalar_type() == torch::kFloat) return torch_run<float>(batch, run);
  if (now.scalar_type() == torch::kDouble) return torch_run<double>(batch, run);
  fail("torch_loss", "log_probabilities of dtype Float or Double", c10::toString(now.scalar_type()));
}

/// Calls f(reduce), and ends the other shards if a tensor is refused before the step begins.
template <class F, class Reduce>
torch_step_loss torch_shard(const F& f, const Reduce& reduce) {
  return as_shard<credit_totals, step_averages>("torch_loss", f, reduce);
}

}  // namespace detail

/// Computes the step's loss as a tensor that Torch differentiates. It can be scaled, or added to other losses, before
/// `backward()`.
///
///     torch_loss(step, batch, rewards).backward();
///
/// rewards: of the dtype of log_probabilities, without gradient.
/// reduce: as in `policy_gradient`, for one shard of a batch. Sum the gradients over the shards; do not average them.
/// Shapes: rewards P × M, a row for each prompt, B = P·M; or B if the step's advantage estimator needs no groups.
/// Errors: as `torch_matrix` and the step. A second `backward()` throws unless the first retained the graph. With
/// create_graph, `backward()` throws, because the step has no second derivative.
template <class Step, reduction Reduce = whole_batch>
torch_step_loss torch_loss(const Step& step, const torch_batch& batch, const torch::Tensor& rewards,
                           const Reduce& reduce = {}) {
  return detail::torch_shard(
      [&](const auto& own) {
        return detail::torch_run(batch, [&]<real_scalar S, class Mask>(const token_batch<S, Mask>& views) {
          return step(views, detail::named_torch_matrix<S>("torch_loss", "rewards", rewards), own);
        });
      },
      reduce);
}

/// Computes the loss of a flat batch, with the prompt index of each response.
///
/// Shapes: prompt B, of int64; rewards B.
template <class Step, reduction Reduce = whole_batch>
torch_step_loss torch_loss(const Step& step, const torch_batch& batch, const torch::Tensor& prompt,
                           const torch::Tensor& rewards, const Reduce& reduce = {}) {
  return detail::torch_shard(
      [&](const auto& own) {
        return detail::torch_run(batch, [&]<real_scalar S, class Mask>(const token_batch<S, Mask>& views) {
          return step(views, detail::named_torch_array<std::int64_t>("torch_loss", "prompt", prompt),
                      detail::named_torch_array<S>("torch_loss", "rewards", rewards), own);
        });
      },
      reduce);
}

}  // namespace INFALIGN_NAMESPACE

#include <infalign/detail/end.hpp>
