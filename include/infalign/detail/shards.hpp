// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/step/step_result.hpp>

#include <concepts>
#include <cstddef>
#include <tuple>
#include <utility>

#include <infalign/detail/begin.hpp>

/// \file
/// Shards of a batch: an error in one of them ends all of them.
///
/// With each sum over the shards goes the number of those that have failed. A shard that fails still takes part in the
/// next sum, with zeros and a 1, and then throws its own error; the others see the 1 and throw too. Therefore all shards
/// call the reduction as often, and none waits for one that has ended.
namespace INFALIGN_NAMESPACE::detail {

/// Numbers that are summed over shards, and the number of the shards that have failed.
template <class T>
struct counted_totals : T {
  double failed = 0;
};

/// What stage 2 of the step sums.
struct credit_totals {
  double sequences = 0, tokens = 0;
  metric_mean reward, less_kl;
};

/// The totals of a stage that has none.
struct no_totals {};

/// The reduction of one shard. Totals: the structs of doubles that `sum` is called with, in this order. Shards can fail
/// before the last of these calls.
template <reduction Reduce, class... Totals>
class shard {
 public:
  shard(const char* function, const Reduce& reduce) : function_(function), reduce_(reduce) {}

  /// Replaces totals by their sums over all shards.
  ///
  /// Errors: if another shard has failed.
  template <class T>
  void sum(T& totals) const {
    const int call = std::exchange(next_, ended);
    counted_totals<T> all{totals};
    as_doubles(all, [&](auto values) { reduce_(values, reduce_op::sum); });
    if (all.failed > 0) fail(function_, "all shards to succeed", "an error in another shard");
    totals = all;
    next_ = call + 1;
  }

  /// The reduction itself, of numbers that a shard has if it has not failed before.
  void operator()(Eigen::Ref<array<double>> values, reduce_op op) const {
    const int call = std::exchange(next_, ended);  // if the reduction throws, the shards are out of step
    reduce_(values, op);
    next_ = call;
  }

  /// Takes part in the next `sum` of the others, if there is one, to end them.
  void end_others() const {
    int call = 0;
    const auto take_part = [&]<class T>(counted_totals<T> all) {
      if (call++ == next_) as_doubles(all, [&](auto values) { reduce_(values, reduce_op::sum); });
    };
    (take_part(counted_totals<Totals>{{}, 1}), ...);
  }

 private:
  static constexpr int ended = -1;

  const char* function_;
  const Reduce& reduce_;
  mutable int next_ = 0;  // the call of `sum` that follows, or `ended`: none does
};

template <class R>
inline constexpr bool is_shard = false;
template <reduction Reduce, class... Totals>
inline constexpr bool is_shard<shard<Reduce, Totals...>> = true;

/// Calls f(args...) with a `shard` in the place of a reduction that is the last argument. If f throws, so do the other
/// shards. Without a reduction, or with one that is a `shard` already, it only calls f.
template <class... Totals, class F, class... Args>
decltype(auto) as_shard([[maybe_unused]] const char* function, const F& f, Args&... args) {
  using last = std::remove_const_t<std::tuple_element_t<sizeof...(Args) - 1, std::tuple<Args...>>>;
  if constexpr (!reduction<last> || std::same_as<last, whole_batch> || is_shard<last>) {
    return f(args...);
  } else {
    const auto all = std::tie(args...);
    const shard<last, Totals...> own(function, std::get<sizeof...(Args) - 1>(all));
    const auto run = [&]<std::size_t... I>(std::index_sequence<I...>)->decltype(auto) {
      return f(std::get<I>(all)..., own);
    };
#if defined(__cpp_exceptions) || defined(_CPPUNWIND)
    try {
      return run(std::make_index_sequence<sizeof...(Args) - 1>());
    } catch (...) {
      try {
        own.end_others();
      } catch (...) {  // of two errors, the first says what is wrong
      }
      throw;
    }
#else
    return run(std::make_index_sequence<sizeof...(Args) - 1>());
#endif
  }
}

}  // namespace INFALIGN_NAMESPACE::detail

#include <infalign/detail/end.hpp>
