// SPDX-License-Identifier: MIT
#pragma once

#include <infalign/procedure.hpp>

#include <algorithm>

/// W and KL of a density on a grid of equal cells, by sums: an oracle with errors of the order of 1/cells².
struct gridded {
  infalign::array<double> p;  // mass of each cell

  explicit gridded(infalign::array<double> mass) : p(mass / mass.sum()) {}

  double kl() const { return (p > 0).select(p * (p * static_cast<double>(p.size())).max(1e-300).log(), 0.0).sum(); }

  template <infalign::procedure T1, infalign::procedure T2>
  double win_rate(const T1& t1, const T2& t2) const {
    double F = 0, policy = 0, reference = 0, result = 0;
    for (Eigen::Index i = 0; i < p.size(); ++i) {
      F += p[i];
      const double next = t1.cdf(std::min(F, 1.0)),
                   next_reference = t2.cdf(static_cast<double>(i + 1) / static_cast<double>(p.size()));
      result += (next - policy) * 0.5 * (reference + next_reference);
      policy = next, reference = next_reference;
    }
    return result;
  }
};
