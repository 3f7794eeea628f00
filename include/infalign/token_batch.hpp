// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/core.hpp>

/// What a trainer hands to the policy-gradient step: views of its B × T buffers, one row for each response.
namespace infalign {

/// A view of row-major rows, of any distance between them, over the caller's buffer. Made from an Eigen object or `Map`
/// with rows contiguous in memory, or from a column (T = 1); empty by default. An expression or a temporary has no
/// buffer to view, and does not compile.
template <class T>
class matrix_view {
 public:
  matrix_view() = default;

  matrix_view(const T* data, Eigen::Index rows, Eigen::Index columns, Eigen::Index stride)
      : data_(data), rows_(rows), cols_(columns), stride_(stride), given_(true) {}

  template <class E>
  requires requires(const E& e) { detail::take_dense(e); }
  matrix_view(const E& e)
      : rows_(e.rows()), cols_(e.cols()), given_(true) {  // NOLINT: implicit, so that a batch is written as its buffers
    static_assert(std::same_as<typename E::Scalar, T>,
                  "infalign::matrix_view: the buffer has another scalar type than the view");
    static_assert((E::Flags & Eigen::DirectAccessBit) != 0,
                  "infalign::matrix_view: an expression has no buffer to view; evaluate it into a matrix first");
    static_assert(E::IsRowMajor || E::ColsAtCompileTime == 1,
                  "infalign::matrix_view: rows must be contiguous; use infalign::matrix, which is row-major");
    data_ = e.data();
    stride_ = E::ColsAtCompileTime == 1 ? e.innerStride() : e.outerStride();
    if (E::ColsAtCompileTime != 1 && e.innerStride() != 1)
      detail::fail("matrix_view", "rows contiguous in memory", detail::text("an inner stride of ", e.innerStride()));
  }

  template <class E>
  requires std::derived_from<E, Eigen::PlainObjectBase<std::remove_cv_t<E>>> matrix_view(E&&)
  = delete;

  Eigen::Index rows() const { return rows_; }
  Eigen::Index cols() const { return cols_; }
  /// Whether there is a view at all, of however many rows and columns.
  bool given() const { return given_; }
  const T* row(Eigen::Index i) const { return data_ + i * stride_; }

 private:
  const T* data_ = nullptr;
  Eigen::Index rows_ = 0, cols_ = 0, stride_ = 0;
  bool given_ = false;
};

/// B responses of up to T tokens, as views: the buffers must outlive the call. All are B × T; what is optional may be
/// left out.
///
///     token_batch<float> batch{.log_probabilities = now, .reference_log_probabilities = reference, .mask = mask};
template <real_scalar S, class Mask = S>
struct token_batch {
  /// log π_θ(y_t | y_<t), of the policy that is trained.
  matrix_view<S> log_probabilities;
  /// log π_ref. Optional without a KL term.
  matrix_view<S> reference_log_probabilities = {};
  /// 1 where a token counts, 0 where it does not, in any place (padding, tool output). What stands at a 0 is not looked
  /// at. Optional: all count.
  matrix_view<Mask> mask = {};
  /// log π_old, of the policy that the responses come from. Optional: on-policy.
  matrix_view<S> behavior_log_probabilities = {};
  /// log-probabilities as the sampling engine gave them, where they differ from π_old's in precision. Optional.
  matrix_view<S> sampler_log_probabilities = {};
  /// With a sampler, each term of the loss, of the KL too, is weighted by min(π_old/π_sampler, this), held constant: of
  /// the token for terms of a token, of the whole response (the product, capped once) for terms of a response. Finite
  /// and above 0.
  double sampler_weight_cap = 2;
};

}  // namespace infalign
