// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/core.hpp>

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
  static groups rows(Eigen::Index P, Eigen::Index M) {
    groups g;
    g.columns_ = M;
    g.starts_.resize(static_cast<std::size_t>(P) + 1);
    for (std::size_t p = 0; p < g.starts_.size(); ++p) g.starts_[p] = static_cast<Eigen::Index>(p) * M;
    return g;
  }

  /// One group for each distinct index, of any size and in any order. The indices need not be dense, only equal for
  /// equal prompts.
  template <prompt_index I>
  static groups by(const I& prompt) {
    groups g;
    const auto id = [&](Eigen::Index i) { return prompt[static_cast<decltype(prompt.size())>(i)]; };
    g.order_.resize(static_cast<std::size_t>(prompt.size()));
    std::iota(g.order_.begin(), g.order_.end(), Eigen::Index{0});
    std::sort(g.order_.begin(), g.order_.end(),
              [&](Eigen::Index a, Eigen::Index b) { return id(a) != id(b) ? id(a) < id(b) : a < b; });
    g.starts_.push_back(0);
    for (std::size_t k = 1; k <= g.order_.size(); ++k)
      if (k == g.order_.size() || id(g.order_[k]) != id(g.order_[k - 1]))
        g.starts_.push_back(static_cast<Eigen::Index>(k));
    return g;
  }

  /// The number of groups.
  Eigen::Index count() const { return static_cast<Eigen::Index>(starts_.size()) - 1; }

  /// The number of responses, B.
  Eigen::Index size() const { return starts_.back(); }

  /// M where the groups are the rows of a matrix; 0 where they come from a prompt index.
  Eigen::Index columns() const { return columns_; }

  /// Calls f(in, first) for each group that has scored values: `in` views the scored (not NaN) among its `values` in
  /// batch order as an Eigen vector, and `first` is the place of the group's first response in the batch.
  template <real_scalar S, class F>
  void for_each(const S* values, F f) const {
    array<S> in(largest());
    for (Eigen::Index g = 0; g < count(); ++g)
      if (const auto scored = gather(g, values, in); scored > 0)
        f(Eigen::Map<const array<S>>(in.data(), scored), member(start(g)));
  }

  /// Calls f(in, out, first) likewise, and stores what it writes to `out` at the same responses of `results`, which may
  /// be `values` itself. The unscored responses get `unscored_result`.
  template <real_scalar S, class F>
  void apply(const S* values, S* results, S unscored_result, F f) const {
    array<S> in(largest()), out(largest());
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
  Eigen::Index gather(Eigen::Index g, const S* values, array<S>& in) const {
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

  Eigen::Index start(Eigen::Index g) const { return starts_[static_cast<std::size_t>(g)]; }
  Eigen::Index member(Eigen::Index k) const { return order_.empty() ? k : order_[static_cast<std::size_t>(k)]; }

  Eigen::Index largest() const {
    Eigen::Index n = 0;
    for (std::size_t g = 1; g < starts_.size(); ++g) n = std::max(n, starts_[g] - starts_[g - 1]);
    return n;
  }

  std::vector<Eigen::Index> order_;   // responses by group; empty where they stand in order already
  std::vector<Eigen::Index> starts_;  // group g is order_[starts_[g]] .. order_[starts_[g + 1] − 1]
  Eigen::Index columns_ = 0;
};

}  // namespace infalign
