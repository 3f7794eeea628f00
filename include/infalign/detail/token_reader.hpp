// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/detail/blocks.hpp>
#include <infalign/detail/dispatch.hpp>
#include <infalign/detail/overlap.hpp>
#include <infalign/step/token_batch.hpp>

#include <algorithm>
#include <cmath>

#include <infalign/detail/begin.hpp>

/// \file
/// Stage 1 of the step: read a response, 64 tokens at a time, so that vector instructions work on them and all that
/// follows stays in the cache.
namespace INFALIGN_NAMESPACE::detail {

/// N units of a response that terms of the loss are functions of: tokens (N = 64), or the whole response (N = 1).
template <real_scalar S, int N>
struct units {
  using values = Eigen::Array<S, N, 1>;

  /// How many are unmasked, and 1 for each that is, else 0.
  double active = N;
  values mask = values::Ones();
  /// log π_θ: N numbers.
  const S* log_probability = nullptr;
  /// Log-ratios: of π_θ to π_ref, of π_θ to π_old, and of π_old to the sampler. 0 if the batch has no such policy, and
  /// at masked tokens.
  values to_reference = values::Zero(), to_old = values::Zero(), to_sampler = values::Zero();
};

/// Up to 64 consecutive tokens of a response.
template <real_scalar S>
struct token_block : units<S, 64> {
  /// The first token, and the number of tokens, masked ones included.
  Eigen::Index first = 0, size = 0;
  /// Sums of the log-ratios.
  double sum_to_reference = 0, sum_to_old = 0, sum_to_sampler = 0;
  /// Copies of log-probabilities, used if some tokens are masked.
  typename units<S, 64>::values buffers[4];
};

/// Sums over the unmasked tokens of a response.
struct response_sums {
  double tokens = 0, log_probability = 0, to_reference = 0, to_old = 0, to_sampler = 0;

  template <real_scalar S>
  void add(const token_block<S>& block) {
    tokens += block.active;
    to_reference += block.sum_to_reference;
    to_old += block.sum_to_old;
    to_sampler += block.sum_to_sampler;
  }
  template <real_scalar S>
  void add_log_probability(const token_block<S>& block) {
    log_probability += static_cast<double>(sum_of<64>(block.log_probability));
  }
};

/// A whole response as one unit, with its log-probability and its log-ratio to π_old times `share`.
struct whole_response : units<double, 1> {
  double scaled;

  whole_response(const response_sums& sums, double share) : scaled(sums.log_probability * share) {
    log_probability = &scaled;
    to_reference[0] = sums.to_reference;
    to_old[0] = sums.to_old * share;
    to_sampler[0] = sums.to_sampler;
  }
  whole_response(const whole_response&) = delete;
};

/// Reads the responses of a batch.
template <real_scalar S, class Mask>
class token_reader {
 public:
  token_reader(const char* function, const token_batch<S, Mask>& batch) : function_(function), batch_(batch) {}

  /// The number of unmasked tokens of response i.
  double tokens(Eigen::Index i) const {
    const auto T = batch_.log_probabilities.cols();
    if (!batch_.mask.given()) return static_cast<double>(T);
    const Mask* const mask = batch_.mask.row(i);
    Eigen::Index sum = 0;
    for (Eigen::Index t = 0; t < T; ++t) sum += mask[t] != Mask(0);
    return static_cast<double>(sum);
  }

  /// Calls f(block) for each block of response i, at the width of the processor.
  ///
  /// Errors: if a mask is not 0 or 1, or an unmasked log-probability is not finite.
  template <class F>
  void for_each_block(Eigen::Index i, const F& f) const {
    const auto T = batch_.log_probabilities.cols();
    token_block<S> block;
    for (block.first = 0; block.first < T; block.first += 64) {
      block.size = std::min<Eigen::Index>(T - block.first, 64);
      read(i, block);
      f(block);
    }
  }

  /// The sums over response i.
  response_sums sums(Eigen::Index i) const {
    response_sums result;
    for_each_block(i, [&](const token_block<S>& block) {
      result.add(block);
      result.add_log_probability(block);
    });
    return result;
  }

  /// result[t] = value at unmasked tokens of response i, 0 at masked ones. The mask was read before, and has no error.
  void fill_unmasked(Eigen::Index i, S value, S* result) const {
    const auto T = batch_.log_probabilities.cols();
    const Mask* const mask = batch_.mask.given() ? batch_.mask.row(i) : nullptr;
    Eigen::Index t = 0;
    for (; t + 64 <= T; t += 64) {
      if (mask)
        scale_to<64>(mask + t, value, result + t);
      else
        fill<64>(value, result + t);
    }
    for (; t < T; ++t) result[t] = mask && mask[t] == Mask(0) ? S{0} : value;
  }

  /// A row of any view of the batch's shape as a block: in place if no token is masked, else copied to `buffer` with 0
  /// at masked tokens.
  static const S* unmasked(const matrix_view<S>& view, Eigen::Index i, const token_block<S>& b,
                           typename units<S, 64>::values& buffer) {
    const S* const row = view.row(i) + b.first;
    if (b.active == 64) return row;
    if (b.size == 64)
      keep_unmasked<64>(row, b.mask.data(), buffer.data());
    else
      for (Eigen::Index j = 0; j < 64; ++j) buffer[j] = j < b.size && b.mask[j] != 0 ? row[j] : S{0};
    return buffer.data();
  }

 private:
  using values = typename units<S, 64>::values;

  /// Not part of `for_each_block`, so that it is compiled once for all functions f.
  void read(Eigen::Index i, token_block<S>& b) const {
    at_full_width([&](auto) {
      read_mask(i, b);
      read_values(i, b);
    });
  }

  void read_mask(Eigen::Index i, token_block<S>& b) const {
    if (!batch_.mask.given()) {
      for (Eigen::Index j = b.size; j < 64; ++j) b.mask[j] = 0;
      b.active = static_cast<double>(b.size);
      return;
    }
    const Mask* const mask = batch_.mask.row(i) + b.first;
    if (b.size < 64) {
      for (Eigen::Index j = 0; j < 64; ++j) b.mask[j] = j < b.size ? static_cast<S>(mask[j]) : S{0};
    } else {
      convert<64>(mask, b.mask.data());
    }
    values off;
    for (int j = 0; j < 64; ++j) off[j] = std::abs(b.mask[j] * (1 - b.mask[j]));
    const S sum = sum_of<64>(off.data());
    if (!is_finite(sum) || sum != 0 || (real_scalar<Mask> && !std::same_as<Mask, S>)) check_mask(i, b);
    b.active = static_cast<double>(sum_of<64>(b.mask.data()));
  }

  /// Throws at the first mask that is not 0 or 1.
  [[gnu::noinline]] void check_mask(Eigen::Index i, const token_block<S>& b) const {
    const Mask* const mask = batch_.mask.row(i) + b.first;
    for (Eigen::Index j = 0; j < b.size; ++j)
      if (!is_zero_or_one(mask[j]))
        fail(function_, "a mask of 0 and 1", concat(static_cast<double>(mask[j]), position(i, b.first + j)));
  }

  /// In the mask's own type; and a NaN by its bits, because of -ffast-math.
  static bool is_zero_or_one(Mask m) {
    if constexpr (real_scalar<Mask>)
      if (!is_finite(m)) return false;
    return m == Mask(0) || m == Mask(1);
  }

  void read_values(Eigen::Index i, token_block<S>& b) const {
    bool finite = true;  // a sum or difference with a number that is not finite, or huge, is mostly so too
    const auto difference = [&](const S* x, const S* y, values& result, double& total) {
      subtract<64>(x, y, result.data());
      const S sum = sum_of<64>(result.data());
      finite = finite && is_small(sum);
      total = static_cast<double>(sum);
    };
    const S* const now = unmasked(batch_.log_probabilities, i, b, b.buffers[0]);
    b.log_probability = now;
    const bool off_policy = batch_.old_log_probabilities.given();
    const S* const old = off_policy ? unmasked(batch_.old_log_probabilities, i, b, b.buffers[1]) : now;
    if (off_policy) difference(now, old, b.to_old, b.sum_to_old);
    if (batch_.reference_log_probabilities.given())
      difference(now, unmasked(batch_.reference_log_probabilities, i, b, b.buffers[2]), b.to_reference,
                 b.sum_to_reference);
    else if (!off_policy)
      finite = is_small(sum_of<64>(now));
    if (batch_.sampler_log_probabilities.given())
      difference(old, unmasked(batch_.sampler_log_probabilities, i, b, b.buffers[3]), b.to_sampler, b.sum_to_sampler);
    if (!finite) check_finite(i, b);
  }

  /// True if x is finite and at least a factor of 10⁹ below overflow.
  static bool is_small(S x) { return is_finite(x * static_cast<S>(1e9)); }

  /// Throws at the first unmasked log-probability that is not finite, or huge. There may be none.
  [[gnu::noinline]] void check_finite(Eigen::Index i, const token_block<S>& b) const {
    const auto check = [&](const char* what, const matrix_view<S>& view, Eigen::Index j) {
      if (!view.given()) return;
      const S x = view.row(i)[b.first + j];
      if (!is_small(x))
        fail(function_, concat(is_finite(x) ? "no finfo.min or other huge number in " : "finite ", what),
             concat(x, position(i, b.first + j)));
    };
    for (Eigen::Index j = 0; j < b.size; ++j) {
      if (b.mask[j] == 0) continue;
      check("log_probabilities", batch_.log_probabilities, j);
      check("reference_log_probabilities", batch_.reference_log_probabilities, j);
      check("old_log_probabilities", batch_.old_log_probabilities, j);
      check("sampler_log_probabilities", batch_.sampler_log_probabilities, j);
    }
  }

  const char* function_;
  const token_batch<S, Mask>& batch_;
};

/// Calls f(name, view) for each view of a batch, given or not.
template <real_scalar S, class Mask, class F>
void for_each_view(const token_batch<S, Mask>& batch, const F& f) {
  f("log_probabilities", batch.log_probabilities);
  f("reference_log_probabilities", batch.reference_log_probabilities);
  f("mask", batch.mask);
  f("old_log_probabilities", batch.old_log_probabilities);
  f("sampler_log_probabilities", batch.sampler_log_probabilities);
}

/// Throws if a gradient of B × T is in the memory of a view of the batch, unless each number is in the place of its own.
template <real_scalar S, class Mask>
void check_result(const char* function, const matrix<S>& gradient, const token_batch<S, Mask>& batch) {
  for_each_view(batch, [&](const char*, const auto& view) {
    if (view.given() && view.rows() > 0)
      check_same_place(function, memory_of(gradient),
                       {view.row(0), view.rows(), view.cols(),
                        static_cast<Eigen::Index>(view.row(view.rows() > 1 ? 1 : 0) - view.row(0)), 1},
                       "the batch");
  });
}

/// Throws if the first unmasked log-probability of every response is above 0: these are probabilities.
template <real_scalar S, class Mask>
void check_logarithms(const char* function, const token_batch<S, Mask>& batch) {
  const auto B = batch.log_probabilities.rows(), T = batch.log_probabilities.cols();
  S largest = 0;
  for (Eigen::Index i = 0; i < B; ++i) {
    Eigen::Index t = 0;
    while (t < T && batch.mask.given() && batch.mask.row(i)[t] == Mask(0)) ++t;
    if (t == T) continue;
    const S first = batch.log_probabilities.row(i)[t];
    if (is_nan(first) || !(first > 0)) return;
    largest = std::max(largest, first);
  }
  if (largest > static_cast<S>(0.01))
    fail(function, "log-probabilities, which are at most 0", "positive numbers only, as probabilities are");
}

/// Throws unless the views of a batch fit each other and the number of responses.
template <real_scalar S, class Mask>
void check_batch(const char* function, const token_batch<S, Mask>& batch, const char* what, Eigen::Index responses) {
  const auto& now = batch.log_probabilities;
  if (now.rows() != responses)
    fail(function, concat(now.rows(), " ", what, ", one for each row of log_probabilities"), concat(responses));
  if (responses == 0) return;
  const auto shape = [](const auto& view) { return concat(view.rows(), " x ", view.cols()); };
  for_each_view(batch, [&](const char* name, const auto& view) {
    if (view.given() && (view.rows() != now.rows() || view.cols() != now.cols()))
      fail(function, concat(name, " of ", shape(now)), shape(view));
  });
  check_positive(function, "a sampler_weight_cap", batch.sampler_weight_cap);
  const double floor = batch.sampler_weight_floor;
  if (!is_finite(floor) || floor < 0 || floor > batch.sampler_weight_cap)
    fail(function, "a sampler_weight_floor from 0 to the cap", concat(floor));
}

}  // namespace INFALIGN_NAMESPACE::detail

#include <infalign/detail/end.hpp>
