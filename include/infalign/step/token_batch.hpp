// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/core.hpp>

#include <infalign/detail/begin.hpp>

/// \file
/// The input of the policy-gradient step: views of the trainer's B × T buffers, with a row for each response.
namespace INFALIGN_NAMESPACE {

/// A read-only view of the rows of a buffer. Each row is contiguous; the stride between rows is free. Eigen objects
/// with such rows, and columns (T = 1), convert to it. Expressions and temporaries do not: they have no lasting buffer.
template <class T>
class matrix_view {
 public:
  /// No view: `given()` is false.
  matrix_view() = default;

  /// From a pointer. stride: from the start of one row to the start of the next.
  ///
  /// Errors: if a size is below 0, or if the pointer is null and there are numbers to view.
  matrix_view(const T* data, Eigen::Index rows, Eigen::Index columns, Eigen::Index stride)
      : data_(data), rows_(rows), cols_(columns), stride_(stride), given_(true) {
    if (rows < 0 || columns < 0)
      detail::fail("matrix_view", "sizes of at least 0", detail::concat(rows, " x ", columns));
    if (!data && rows > 0 && columns > 0)
      detail::fail("matrix_view", "a pointer to numbers", detail::concat("null for ", rows, " x ", columns));
  }

  /// From an Eigen object. Errors: if its rows are not contiguous.
  template <class E>
  requires requires(const E& e) { detail::accept_dense(e); }
  matrix_view(const E& e)
      : rows_(e.rows()), cols_(e.cols()), given_(true) {  // NOLINT: implicit, so that buffers convert in a token_batch
    static_assert(std::same_as<typename E::Scalar, T>,
                  "infalign::matrix_view: the buffer has another scalar type than the view");
    static_assert((E::Flags & Eigen::DirectAccessBit) != 0,
                  "infalign::matrix_view: an expression has no buffer to view; evaluate it into a matrix first");
    static_assert(E::IsRowMajor || E::ColsAtCompileTime == 1,
                  "infalign::matrix_view: rows must be contiguous; use infalign::matrix, which is row-major");
    data_ = e.data();
    stride_ = E::ColsAtCompileTime == 1 ? e.innerStride() : e.outerStride();
    if (E::ColsAtCompileTime != 1 && e.innerStride() != 1)
      detail::fail("matrix_view", "rows contiguous in memory", detail::concat("an inner stride of ", e.innerStride()));
  }

  template <class E>
  requires std::derived_from<E, Eigen::PlainObjectBase<std::remove_cv_t<E>>> matrix_view(E&&)
  = delete;

  /// The number of rows, B.
  Eigen::Index rows() const { return rows_; }
  /// The number of columns, T.
  Eigen::Index cols() const { return cols_; }
  /// From the start of one row to the start of the next.
  Eigen::Index stride() const { return stride_; }
  /// False for a default view, true for any other, even an empty one.
  bool given() const { return given_; }
  /// The first number of row i.
  const T* row(Eigen::Index i) const { return data_ + i * stride_; }

 private:
  const T* data_ = nullptr;
  Eigen::Index rows_ = 0, cols_ = 0, stride_ = 0;
  bool given_ = false;
};

/// How the importance weights w = π_old/π_sampler enter the loss. In the sequence modes w is the ratio of the whole
/// response, and all its tokens have that one weight. Terms of a whole response always have the ratio of the response.
///
/// Source: truncated importance sampling, Yao et al., "Your efficient RL framework secretly brings you off-policy RL
/// training", 2025; masks of tokens: IcePop, Ling team, 2025; of responses: Liu et al., "When speed kills stability", 2025.
enum class sampler_mode {
  token_truncate,     ///< w of each token, clamped to [floor, cap]
  token_mask,         ///< w of each token; 0 outside [floor, cap]
  sequence_truncate,  ///< w of the response, clamped
  sequence_mask       ///< w of the response; 0 outside
};

/// Views of B responses of up to T tokens. The buffers must outlive the call.
///
///     token_batch<float> batch{.log_probabilities = now, .reference_log_probabilities = reference, .mask = mask};
///
/// Shapes: each view B × T; an optional one may be left out.
/// Range: log-probabilities are natural logarithms. The step refuses a size above 3e29 (float) or 1e299 (double), such as
/// Torch's `finfo.min`, at an unmasked token; and a batch with positive ones only, which are probabilities.
template <real_scalar S, class Mask = S>
struct token_batch {
  /// B × T: log π_θ(y_t | y_<t) of the policy in training.
  matrix_view<S> log_probabilities;
  /// B × T: log π_ref. Optional if there is no KL term.
  matrix_view<S> reference_log_probabilities = {};
  /// B × T: 1 if a token is unmasked, 0 if it is masked (padding, tool output), at any positions. The values of masked
  /// tokens are ignored. Optional: by default, all tokens are unmasked.
  matrix_view<Mask> mask = {};
  /// B × T: log π_old of the policy that generated the responses. Optional: by default, π_old = π_θ (on-policy).
  matrix_view<S> old_log_probabilities = {};
  /// B × T: log π_sampler as the sampling engine reported it, if its precision differs from π_old's. Optional.
  matrix_view<S> sampler_log_probabilities = {};
  /// If a sampler is given, every term of the loss, KL losses included, is multiplied by a weight without gradient. By
  /// default, the weight is min(π_old/π_sampler, cap) of a token.
  ///
  /// Range: finite and above 0.
  double sampler_weight_cap = 2;
  /// The least weight, from 0 to the cap.
  double sampler_weight_floor = 0;
  /// What the ratio is of, and what happens outside [floor, cap].
  sampler_mode sampler_weights = sampler_mode::token_truncate;
};

}  // namespace INFALIGN_NAMESPACE

#include <infalign/detail/end.hpp>
