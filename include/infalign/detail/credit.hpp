// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/detail/token_reader.hpp>

#include <algorithm>

#include <infalign/detail/begin.hpp>

/// \file
/// The advantages of a response's tokens: one for all of them, or one for each.
namespace INFALIGN_NAMESPACE::detail {

/// One advantage for each response. NaN: the response is left out.
template <real_scalar S>
struct response_credit {
  const S* advantages;

  S of_response(Eigen::Index i) const { return advantages[i]; }
  auto of_blocks(Eigen::Index i) const {
    return [advantage = advantages[i]](const token_block<S>&) { return advantage; };
  }
};

/// One advantage for each token. A row of NaN: the response is left out, if NaN is propagated.
template <real_scalar S>
struct token_credit {
  matrix_view<S> advantages;
  unscored on_unscored;

  S of_response(Eigen::Index i) const {
    const bool none = all_nan(advantages.row(i), advantages.cols());
    return none && advantages.cols() > 0 && on_unscored == unscored::propagate ? nan<S> : S{0};
  }
  auto of_blocks(Eigen::Index i) const {
    return [this, i, buffer = typename units<S, 64>::values()](const token_block<S>& block) mutable {
      typename units<S, 64>::values result;
      std::copy_n(token_reader<S, S>::unmasked(advantages, i, block, buffer), 64, result.data());
      if (!is_finite(sum_of<64>(result.data()))) check_finite(result, i, block);
      return result;
    };
  }

 private:
  /// Throws at the first advantage that is not finite. There may be none.
  [[gnu::noinline]] static void check_finite(const typename units<S, 64>::values& values, Eigen::Index i,
                                             const token_block<S>& block) {
    for (Eigen::Index j = 0; j < block.size; ++j)
      if (!is_finite(values[j]))
        fail("policy_loss", "finite advantages", concat(values[j], position(i, block.first + j)));
  }
};

}  // namespace INFALIGN_NAMESPACE::detail

#include <infalign/detail/end.hpp>
