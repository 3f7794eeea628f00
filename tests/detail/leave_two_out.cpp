// SPDX-License-Identifier: MIT
#include <infalign/calibration/reference.hpp>
#include <infalign/detail/leave_two_out.hpp>

#include "arrays.hpp"

#include <cmath>
#include <functional>
#include <vector>

using namespace infalign;
using Eigen::Index;

namespace {

/// A distribution over four rewards, two of them far apart.
const double reward[4] = {-3, 0, 1, 7}, chance[4] = {0.3, 0.15, 0.35, 0.2};

double true_rank(double r) {
  double c = 0;
  for (int i = 0; i < 4; ++i) c += chance[i] * (reward[i] < r ? 1 : reward[i] == r ? 0.5 : 0);
  return c;
}

/// Calls f(row, probability) for each row of K rewards.
void for_each_row(int K, const std::function<void(const array<double>&, double)>& f) {
  array<double> row(K);
  const int rows = 1 << (2 * K);
  for (int code = 0; code < rows; ++code) {
    double p = 1;
    for (int k = 0; k < K; ++k) {
      const int i = code >> (2 * k) & 3;
      row[k] = reward[i];
      p *= chance[i];
    }
    f(row, p);
  }
}

/// A prior that depends on the other rewards: between a fixed increasing function and their mean's.
double prior_of(double sum_of_rest, double count, double r) {
  return 1 / (1 + std::exp(-(r - 0.5 * sum_of_rest / count) / 3));
}

}  // namespace

TEST_CASE("The leave-two-out risk is that of the estimate from K - 2 references plus a constant, without bias") {
  constexpr int K = 5;
  for (const double a : {0.0, 1.5, 20.0}) {
    double risk = 0;
    for_each_row(K, [&](const array<double>& row, double p) {
      const double sum = row.sum();
      const auto m =
          detail::leave_two_out(Eigen::Map<const array<double>>(row.data(), K), 0, [&](Index j, Index k, double) {
            const double rest = sum - row[j] - row[k];
            return std::pair{prior_of(rest, K - 2, row[j]), prior_of(rest, K - 2, row[k])};
          });
      const auto [hh, hw] = m.mixed(a);
      risk += p * (hh - 2 * hw + m.ww);  // the mean of (h - w)^2
    });
    double truth = 0, noise = 0;
    for_each_row(K - 2, [&](const array<double>& row, double p) {
      for (int i = 0; i < 4; ++i) {
        const double r = reward[i],
                     f = ((row < r).cast<double>().sum() + 0.5 * (row == r).cast<double>().sum()) / (K - 2);
        const double estimate = ((K - 2) * f + a * prior_of(row.sum(), K - 2, r)) / (K - 2 + a);
        truth += p * chance[i] * (estimate - true_rank(r)) * (estimate - true_rank(r));
      }
    });
    for (int i = 0; i < 4; ++i)
      for (int j = 0; j < 4; ++j) {
        const double w = reward[j] < reward[i] ? 1 : i == j ? 0.5 : 0, c = true_rank(reward[i]);
        noise += chance[i] * chance[j] * (w - c) * (w - c);
      }
    INFO("a = " << a);
    CHECK(risk == Approx(truth + noise).epsilon(1e-12));
  }
}

TEST_CASE("The weight of least risk is the best of a fine grid, for prompts with unlike numbers of rewards too") {
  std::vector<detail::risk_moments> prompts;
  for (const int K : {4, 6, 6})
    for_each_row(std::min(K, 4), [&](const array<double>& row, double) {
      array<double> longer(K);
      for (int k = 0; k < K; ++k) longer[k] = row[k % 4] + (k >= 4 ? 0.25 : 0);
      prompts.push_back(
          detail::leave_two_out(Eigen::Map<const array<double>>(longer.data(), K), 0, [&](Index j, Index k, double) {
            return std::pair{true_rank(longer[j]) * 0.8 + 0.05, true_rank(longer[k]) * 0.8 + 0.05};
          }));
    });
  const auto risk = [&](double a) {
    double sum = 0;
    for (const double loss : detail::losses(prompts, a)) sum += loss;
    return sum;
  };
  const double best = detail::least_risk_weight(prompts);
  for (double x = -8; x < 12; x += 0.05) CHECK(risk(std::exp(x)) >= risk(best) - 1e-9);
  CHECK(risk(0) >= risk(best));
  CHECK(risk(infinity<double>) >= risk(best));
}

TEST_CASE("More than 64 pairs are sampled evenly: sorted rewards have the moments of shuffled ones") {
  array<double> row(100);
  for (Index k = 0; k < 100; ++k) row[k] = static_cast<double>(k);
  const auto none = [](Index, Index, double) { return std::pair{0.5, 0.5}; };
  detail::risk_moments mean;
  for (Index first = 0; first < 200; ++first)
    mean += detail::leave_two_out(Eigen::Map<const array<double>>(row.data(), 100), first, none);
  mean.scale(1.0 / 200);
  CHECK(mean.ww == Approx(0.25));
  CHECK(mean.ff == Approx(1.0 / 12).epsilon(0.03));  // the variance of a uniform number
  CHECK(mean.fw == Approx(1.0 / 12).epsilon(0.03));  // E[C·(C − ½)], too
}

// For distinct rewards, whatever they are: E[C(1 − C)] = 1/6, and E[(½ − C)²] = 1/12.
TEST_CASE("The measured errors of distinct rewards, and of a prior of one half, are those of uniform numbers") {
  const auto errors = [](const std::vector<std::vector<double>>& table) {
    std::vector<detail::risk_moments> prompts;
    for (const auto& row : table)
      if (row.size() >= 2)
        prompts.push_back(detail::leave_two_out(
            Eigen::Map<const array<double>>(row.data(), static_cast<Index>(row.size())), 0, [](Index, Index, double) {
              return std::pair{0.5, 0.5};
            }));
    return detail::measured_errors(ragged(table), prompts);
  };
  const auto many = errors({{1, 5, 2, 9, 4}, {0, 7, -1, 3, 2}, {6}, {1, 2, 3, 4, 5}});
  CHECK(many.variance == near(1. / 6, 1e-15));
  CHECK(many.prior == near(1. / 12, 1e-15));
  CHECK(many.shared == near(0, 1e-15));
  CHECK(many.others == 3);
  const auto unlike = errors({{1, 5, 2, 9, 4}, {0, 7, 3}, {2, 1}});
  CHECK(unlike.variance == near(1. / 6, 1e-15));
  CHECK(unlike.prior == near(1. / 12, 1e-15));
  CHECK(unlike.others == near(2 / (1. / 3 + 1), 1e-15));
  const auto pairs = errors({{1, 5}, {3, 2}, {4, 4}, {1, 0}});  // no triples: 1/6 if all pairs were of distinct rewards
  CHECK(pairs.variance == near(0.75 / 6, 1e-15));
  CHECK(pairs.others == 1);
  CHECK(std::isnan(errors({{1}, {2}}).variance));  // no pair
  const auto equal = errors({{4, 4, 4}, {1, 1, 1}});
  CHECK(equal.variance == 0);
}

TEST_CASE("Running moments are those of the numbers that are left") {
  detail::running_moments moments;
  CHECK(moments.mean() == 0);
  for (const double x : {1001., 1004., 1009., 1002.}) moments.add(x);
  CHECK(moments.count == 4);
  CHECK(moments.mean() == 1004);
  CHECK(moments.spread() == 38);
  moments.remove(1001);
  moments.remove(1009);
  CHECK(moments.count == 2);
  CHECK(moments.mean() == 1003);
  CHECK(moments.spread() == 2);
}
