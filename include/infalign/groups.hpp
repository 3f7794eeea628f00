// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/workspace.hpp>

#include <algorithm>
#include <numeric>
#include <vector>

/// Which responses of a batch answer the same prompt.
namespace infalign {

/// The groups of a batch of B responses: the rows of a P × M matrix, or the responses that share a prompt index,
/// wherever they stand.
class groups {
 public:
  /// P groups of M responses, one after another: the rows of a row-major P × M matrix.
  static groups rows(Eigen::Index P, Eigen::Index M) { return rows(P, M, nullptr); }
  static groups rows(Eigen::Index P, Eigen::Index M, workspace* space) {
    groups g(space);
    g.columns_ = g.largest_ = M;
    g.count_ = P;
    g.size_ = P * M;
    return g;
  }

  /// One group for each distinct index, of any size and in any order. The indices need not be dense, only equal for
  /// equal prompts.
  template <prompt_index I>
  static groups by(const I& prompt) {
    groups g(nullptr);
    g.own_.resize(memory_for(static_cast<Eigen::Index>(prompt.size())));
    g.sort(prompt, g.own_.data());
    return g;
  }
  /// The same in memory of the caller's, which must outlive it, of `memory_for(B)`.
  template <prompt_index I>
  static groups by(const I& prompt, Eigen::Index* memory, workspace* space) {
    groups g(space);
    g.kept_ = memory;
    g.sort(prompt, memory);
    return g;
  }
  static std::size_t memory_for(Eigen::Index B) { return 2 * static_cast<std::size_t>(B) + 1; }

  /// The number of groups.
  Eigen::Index count() const { return count_; }

  /// The number of responses, B.
  Eigen::Index size() const { return size_; }

  /// M where the groups are the rows of a matrix; 0 where they come from a prompt index.
  Eigen::Index columns() const { return columns_; }

  /// Calls f(in, first) for each group that has scored values: `in` views the scored (not NaN) among its `values` in
  /// batch order as an Eigen vector, and `first` is the place of the group's first response in the batch.
  template <real_scalar S, class F>
  void for_each(const S* values, F f) const {
    detail::scratch<S> in(space_, largest_);
    for (Eigen::Index g = 0; g < count(); ++g)
      if (const auto scored = gather(g, values, in); scored > 0)
        f(Eigen::Map<const array<S>>(in.data(), scored), member(start(g)));
  }

  /// Calls f(in, out, first) likewise, and stores what it writes to `out` at the same responses of `results`, which may
  /// be `values` itself. The unscored responses get `unscored_result`.
  template <real_scalar S, class F>
  void apply(const S* values, S* results, S unscored_result, F f) const {
    detail::scratch<S> in(space_, largest_), out(space_, largest_);
    for (Eigen::Index g = 0; g < count(); ++g) {
      const auto scored = gather(g, values, in);
      if (scored > 0)
        f(Eigen::Map<const array<S>>(in.data(), scored), Eigen::Map<array<S>>(out.data(), scored), member(start(g)));
      Eigen::Index next = 0;
      for_each_member(g,
                      [&](Eigen::Index i) { results[i] = detail::is_nan(values[i]) ? unscored_result : out[next++]; });
    }
  }

 private:
  template <real_scalar S>
  Eigen::Index gather(Eigen::Index g, const S* values, detail::scratch<S>& in) const {
    Eigen::Index scored = 0;
    for_each_member(g, [&](Eigen::Index i) {
      if (!detail::is_nan(values[i])) in[scored++] = values[i];
    });
    return scored;
  }

  template <class F>
  void for_each_member(Eigen::Index g, F f) const {
    for (Eigen::Index k = start(g); k < start(g + 1); ++k) f(member(k));
  }

  explicit groups(workspace* space) : space_(space) {}

  /// memory: where each group starts, and the end of the last, then from B + 1 on the responses by group.
  template <prompt_index I>
  void sort(const I& prompt, Eigen::Index* memory) {
    size_ = static_cast<Eigen::Index>(prompt.size());
    const auto id = [&](Eigen::Index i) { return prompt[static_cast<decltype(prompt.size())>(i)]; };
    Eigen::Index* const order = memory + size_ + 1;
    std::iota(order, order + size_, Eigen::Index{0});
    std::sort(order, order + size_,
              [&](Eigen::Index a, Eigen::Index b) { return id(a) != id(b) ? id(a) < id(b) : a < b; });
    memory[0] = 0;
    for (Eigen::Index k = 1; k <= size_; ++k)
      if (k == size_ || id(order[k]) != id(order[k - 1])) {
        memory[++count_] = k;
        largest_ = std::max(largest_, k - memory[count_ - 1]);
      }
  }

  const Eigen::Index* sorted() const { return kept_ ? kept_ : own_.data(); }  // null where they stand in order already
  Eigen::Index start(Eigen::Index g) const { return sorted() ? sorted()[g] : g * columns_; }
  Eigen::Index member(Eigen::Index k) const { return sorted() ? sorted()[size_ + 1 + k] : k; }

  workspace* space_;
  std::vector<Eigen::Index> own_;
  const Eigen::Index* kept_ = nullptr;
  Eigen::Index count_ = 0, size_ = 0, largest_ = 0, columns_ = 0;
};

}  // namespace infalign
