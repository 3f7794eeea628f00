// SPDX-License-Identifier: MIT
#include <infalign/calibration/prior.hpp>
#include <infalign/detail/prior_models.hpp>

#include "arrays.hpp"

#include <random>
#include <vector>

using namespace infalign;
using Eigen::Index;

namespace {

/// The mid-rank of z among all numbers of a table but two of row p.
double pooled_without(const matrix<double>& table, Index p, Index j, Index k, double z) {
  double below = 0, count = 0;
  for (Index q = 0; q < table.rows(); ++q)
    for (Index i = 0; i < table.cols(); ++i) {
      if (q == p && (i == j || i == k)) continue;
      below += table(q, i) < z ? 1 : table(q, i) == z ? 0.5 : 0;
      count += 1;
    }
  return below / count;
}

}  // namespace

// The pooled CDF of few rewards is exact, so that two of them can be left out of it exactly.
TEST_CASE("The pooled model leaves two rewards out of all, ties included") {
  std::mt19937 random(1);
  const auto table = table_of<double>(4, 5, [&] { return static_cast<double>(random() % 7); });
  const calibration_prior<double> prior{table, prior_model::pooled};
  const ragged rows(Eigen::Map<const array<double>>(table.data(), table.size()), std::vector<Index>{0, 5, 10, 15, 20});
  detail::prior_models<double> models;
  models.learn(prior.state(), rows);
  std::vector<detail::risk_moments> result;
  models.leave_two_out(prior_model::pooled, rows, result);
  REQUIRE(result.size() == 4);
  for (Index p = 0; p < 4; ++p) {
    const auto expected = detail::leave_two_out(rows.row(p), p, [&](Index j, Index k, double) {
      return std::pair{pooled_without(table, p, j, k, table(p, j)), pooled_without(table, p, j, k, table(p, k))};
    });
    const auto& got = result[static_cast<std::size_t>(p)];
    CHECK(got.ff == near(expected.ff, 1e-12));
    CHECK(got.fg == near(expected.fg, 1e-12));
    CHECK(got.gg == near(expected.gg, 1e-12));
    CHECK(got.fw == near(expected.fw, 1e-12));
    CHECK(got.gw == near(expected.gw, 1e-12));
    CHECK(got.ww == near(expected.ww, 1e-12));
    CHECK(got.others == 3);
  }
}
