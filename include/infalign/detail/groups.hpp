// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/detail/batch.hpp>
#include <infalign/detail/scratch.hpp>
#include <infalign/workspace.hpp>

#include <algorithm>
#include <numeric>
#include <optional>

#include <infalign/detail/begin.hpp>

/// \file
/// The groups of a batch: the responses that belong to one prompt, wherever they are in the batch.
namespace INFALIGN_NAMESPACE::detail {

/// The groups of a batch of B responses. The memory comes from a workspace if there is one.
class groups {
 public:
  /// P groups of M responses: the rows of a P × M batch.
  groups(const row_prompts& prompts, workspace* space)
      : space_(space),
        count_(prompts.rows),
        size_(prompts.size()),
        largest_(prompts.columns),
        columns_(prompts.columns) {}

  /// One group for each distinct index of a flat batch. Groups may differ in size. Equal prompts need equal indices;
  /// the indices need not be dense.
  template <prompt_index Prompts>
  groups(const flat_prompts<Prompts>& prompts, workspace* space) : space_(space), size_(prompts.size()) {
    sorted_.emplace(space, 2 * size_ + 1);
    auto& memory = *sorted_;
    Eigen::Index* const order = memory.data() + size_ + 1;
    std::iota(order, order + size_, Eigen::Index{0});
    std::sort(order, order + size_, [&](Eigen::Index a, Eigen::Index b) {
      return prompts[a] != prompts[b] ? prompts[a] < prompts[b] : a < b;
    });
    memory[0] = 0;
    for (Eigen::Index k = 1; k <= size_; ++k)
      if (k == size_ || prompts[order[k]] != prompts[order[k - 1]]) {
        memory[++count_] = k;
        largest_ = std::max(largest_, k - memory[count_ - 1]);
      }
    starts_ = memory.data();
    members_ = order;
  }

  /// The number of groups.
  Eigen::Index count() const { return count_; }

  /// The number of responses, B.
  Eigen::Index size() const { return size_; }

  /// The number of responses of the largest group, unscored ones included.
  Eigen::Index largest() const { return largest_; }

  /// M if the groups are the rows of a P × M batch, 0 for a flat batch.
  Eigen::Index columns() const { return columns_; }

  /// The position of response i, for error messages.
  std::string position(Eigen::Index i) const { return position_in(i, columns_); }

  /// Calls f(in, first) for each group that has scored values. `in` is an Eigen vector of the group's values that are
  /// not NaN, in batch order; `first` is the index of the group's first response.
  template <real_scalar S, class F>
  void for_each(const S* values, F f) const {
    scratch<S> in(space_, largest_);
    for (Eigen::Index g = 0; g < count(); ++g)
      if (const auto scored = gather(g, values, in); scored > 0)
        f(Eigen::Map<const array<S>>(in.data(), scored), member(start(g)));
  }

  /// Calls f(in, out, first) in the same way, and copies `out` to `results` at the responses of `in`. An unscored
  /// response gets `unscored_result`. `results` may be `values`.
  template <real_scalar S, class F>
  void apply(const S* values, S* results, S unscored_result, F f) const {
    scratch<S> in(space_, largest_), out(space_, largest_);
    for (Eigen::Index g = 0; g < count(); ++g) {
      const auto scored = gather(g, values, in);
      const bool whole = !starts_ && scored == columns_;  // then its results are contiguous
      if (scored > 0)
        f(Eigen::Map<const array<S>>(in.data(), scored),
          Eigen::Map<array<S>>(whole ? results + start(g) : out.data(), scored), member(start(g)));
      if (whole) continue;
      Eigen::Index next = 0;
      for_each_member(g, [&](Eigen::Index i) { results[i] = is_nan(values[i]) ? unscored_result : out[next++]; });
    }
  }

 private:
  template <real_scalar S>
  Eigen::Index gather(Eigen::Index g, const S* values, scratch<S>& in) const {
    Eigen::Index scored = 0;
    for_each_member(g, [&](Eigen::Index i) {
      if (!is_nan(values[i])) in[scored++] = values[i];
    });
    return scored;
  }

  template <class F>
  void for_each_member(Eigen::Index g, F f) const {
    const Eigen::Index first = start(g), end = start(g + 1);
    for (Eigen::Index k = first; k < end; ++k) f(member(k));
  }

  Eigen::Index start(Eigen::Index g) const { return starts_ ? starts_[g] : g * columns_; }
  Eigen::Index member(Eigen::Index k) const { return members_ ? members_[k] : k; }

  workspace* space_;
  std::optional<scratch<Eigen::Index>> sorted_;  // of a flat batch
  const Eigen::Index* starts_ = nullptr;         // in it: of each group, and the end of the last
  const Eigen::Index* members_ = nullptr;        // in it: the responses, group by group
  Eigen::Index count_ = 0, size_ = 0, largest_ = 0, columns_ = 0;
};

/// The arguments of an `_into` call after its result: `[space,] [prompt,] rewards, options...`.
template <class... Args>
inline constexpr bool is_into_call = begins_with_batch<Args...>;
template <class... Args>
inline constexpr bool is_into_call<workspace, Args...> = begins_with_batch<Args...>;
template <class... Args>
concept into_arguments = is_into_call<std::remove_cvref_t<Args>...>;

/// Calls f(space, args...), with a null workspace if the arguments do not begin with one.
template <class F, class... Args>
decltype(auto) with_workspace(const F& f, workspace& space, const Args&... args) {
  return f(&space, args...);
}
template <class F, class First, class... Args>
requires(!std::same_as<First, workspace>) decltype(auto)
    with_workspace(const F& f, const First& first, const Args&... args) {
  return f(static_cast<workspace*>(nullptr), first, args...);
}

/// Writes to `result` the numbers that f makes of a batch: f(rows, prompts, space, options...) replaces the rewards in
/// `rows`, contiguous memory, by them. args: `[space,] [prompt,] rewards, options...`.
template <class F, class Result, class... Args>
void replace_into(const char* function, Result& result, const F& f, Args&&... args) {
  const auto run = [&](workspace* space, const auto&... batch) {
    with_batch(
        function,
        [&](const auto& batch_prompts, const auto& batch_rewards, const auto&... options) {
          const auto batch_rows = rows_of_result(function, result, batch_prompts);
          check_same_place(function, memory_of(batch_rows), memory_of(batch_rewards), "the rewards");
          scratch<typename Result::Scalar> values(space, batch_rows.packed() ? 0 : batch_rows.size());
          const auto packed = batch_rows.packed() ? batch_rows : packed_rows(values.data(), batch_prompts);
          copy_rewards(batch_rewards, packed);
          f(packed, batch_prompts, space, options...);
          for (Eigen::Index r = 0; !batch_rows.packed() && r < batch_rows.rows; ++r)
            std::copy_n(packed.row(r), batch_rows.columns, batch_rows.row(r));
        },
        batch...);
  };
  with_workspace(run, args...);
}

}  // namespace INFALIGN_NAMESPACE::detail

#include <infalign/detail/end.hpp>
