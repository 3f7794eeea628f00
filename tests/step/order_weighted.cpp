// SPDX-License-Identifier: MIT
#include <infalign/step/max_at_n.hpp>
#include <infalign/step/order_weighted.hpp>

#include "arrays.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <random>
#include <vector>

using namespace infalign;
using Eigen::Index;

namespace {

/// Σ_k weight_k·(k-th smallest of the rewards in a set).
double value(const matrix<double>& r, unsigned set, const array<double>& weight) {
  std::vector<double> in_set;
  for (Index i = 0; i < r.size(); ++i)
    if (set >> i & 1) in_set.push_back(r(0, i));
  std::sort(in_set.begin(), in_set.end());
  double sum = 0;
  for (std::size_t k = 0; k < in_set.size(); ++k) sum += weight[static_cast<Index>(k)] * in_set[k];
  return sum;
}

/// The definition: M/C(M, n)·Σ over sets S of n with i of (f(S) − f′(S∖i)).
matrix<double> by_subsets(const matrix<double>& r, const array<double>& weight, set_baseline baseline) {
  const Index M = r.size(), n = weight.size();
  array<double> without(n - 1);
  for (Index k = 1; k < n; ++k)
    without[k - 1] =
        (static_cast<double>(n - k) * weight[k - 1] + static_cast<double>(k) * weight[k]) / static_cast<double>(n - 1);
  matrix<double> sum = matrix<double>::Zero(1, M);
  double sets = 0;
  for (unsigned set = 0; set < 1u << M; ++set) {
    if (std::popcount(set) != n) continue;
    sets += 1;
    for (Index i = 0; i < M; ++i)
      if (set >> i & 1) {
        sum(0, i) += value(r, set, weight);
        if (baseline == set_baseline::others) sum(0, i) -= value(r, set & ~(1u << i), without);
      }
  }
  sum *= static_cast<double>(M) / sets;
  if (baseline == set_baseline::group_mean) sum -= sum.mean();
  return sum;
}

constexpr set_baseline baselines[] = {set_baseline::none, set_baseline::others, set_baseline::group_mean};

}  // namespace

TEMPLATE_TEST_CASE("Credit for an ordered choice is the sum over subsets, whatever the weights", "", float, double) {
  using S = TestType;
  std::mt19937 random(3);
  for (Index M = 1; M <= 7; ++M)
    for (Index n = 1; n <= M; ++n)
      for (int repeat = 0; repeat < 4; ++repeat) {
        const matrix<S> r = table_of<S>(1, M, [&] { return static_cast<double>(random() % 6) / 4 - 1; });
        const array<double> weight =
            array<double>::NullaryExpr(n, [&] { return static_cast<double>(random() % 5) / 2 - 1; });
        for (const auto baseline : baselines) {
          if (M == 1 && baseline == set_baseline::group_mean) continue;
          const matrix<double> found = advantage(r, order_weighted{weight, baseline}).template cast<double>();
          CHECK(distance(found, by_subsets(r.template cast<double>(), weight, baseline)) < 100 * epsilon<S>);
        }
      }
}

TEST_CASE("Credit for a soft choice has the values of its definition") {
  const matrix<double> r{{.1, .4, .4, .9}};
  const auto credit = [&](int n) {
    return advantage(r, order_weighted{order_weights(soft_best_of{n, 10}), set_baseline::none});
  };
  const matrix<double> of_2{{1.127086672471, 1.12976381284, 1.12976381284, 1.791968578891}};
  const matrix<double> of_3{{2.163265228342, 2.163633415219, 2.163633415219, 2.645818309706}};
  CHECK(distance(credit(2), of_2) < 1e-11);
  CHECK(distance(credit(3), of_3) < 1e-11);
}

TEST_CASE("Equal rewards have equal credit, exactly, and a group of equal rewards has none") {
  const matrix<double> r{{.3, .7, .3, .1, .7, .3}}, equal = matrix<double>::Constant(1, 6, 0.7);
  for (const array<double>& weight :
       {order_weights(soft_best_of{4, 3}), order_weights(order_statistic{3, 5}), array<double>{{0.3, -1, 7}}})
    for (const auto baseline : {set_baseline::others, set_baseline::group_mean}) {
      const auto A = advantage(r, order_weighted{weight, baseline});
      CHECK(A(0, 0) == A(0, 2));
      CHECK(A(0, 0) == A(0, 5));
      CHECK(A(0, 1) == A(0, 4));
      CHECK((advantage(equal, order_weighted{weight, baseline}) == 0).all());
    }
}

TEST_CASE("The best and the worst of n are its ends, and one of n at random is leave-one-out") {
  std::mt19937 random(4);
  const matrix<double> r = table_of<double>(3, 40, [&] { return static_cast<double>(random()) / 0x1p32; });
  for (const int n : {2, 5, 40}) {
    CHECK(distance(advantage(r, order_weighted{order_weights(best_of{n})}), advantage(r, max_at_n{n})) < 1e-12);
    CHECK(distance(advantage(r, order_weighted{order_weights(worst_of{n})}), advantage(r, min_at_n{n})) < 1e-11);
    const array<double> alike = array<double>::Constant(n, 1.0 / n);
    CHECK(distance(advantage(r, order_weighted{alike}), advantage(r, leave_one_out{})) < 1e-11);
  }
}

// A choice among 200 of 1,000. The number of subsets has more than 200 digits, but for weights 1, …, n A follows from ranks.
TEST_CASE("Credit stays accurate in large groups") {
  const int M = 1000, n = 200;
  matrix<double> r(1, M);
  for (int i = 0; i < M; ++i) r(0, i) = std::sqrt(static_cast<double>((i * 367) % M));
  array<double> linear(n);
  for (int k = 1; k <= n; ++k) linear[k - 1] = k;
  const auto A = advantage(r, order_weighted{linear, set_baseline::none});
  // Σ_k k·r_(k) over S = Σ over a in S of r_a·(1 + #{b in S: b below a}). Over the sets with i: r_i counts once, and once
  // for each lower b in S; another a counts if it is in S, with the lower ones in S, of which i may be one.
  std::vector<double> sorted(r.data(), r.data() + M);
  std::sort(sorted.begin(), sorted.end());
  const double one = static_cast<double>(n - 1) / (M - 1), two = one * (n - 2) / (M - 2);  // other members in S with i
  double worst = 0;
  for (int i = 0; i < M; ++i) {
    const auto p = std::lower_bound(sorted.begin(), sorted.end(), r(0, i)) - sorted.begin();
    double sum = r(0, i) * (1 + one * static_cast<double>(p));
    for (int a = 0; a < M; ++a)
      if (a != p) sum += sorted[static_cast<std::size_t>(a)] * (one * (1 + (p < a)) + two * (a - (p < a)));
    worst = std::max(worst, std::abs(A(0, i) / (n * sum) - 1));
  }
  CHECK(worst < 1e-11);
}

TEST_CASE("The weights of a procedure are the probabilities of each rank") {
  CHECK(same(order_weights(best_of{3}), array<double>{{0, 0, 1}}));
  CHECK(same(order_weights(worst_of{3}), array<double>{{1, 0, 0}}));
  CHECK(distance(order_weights(order_statistic{2, 3}), array<double>{{0, 1, 0}}) < 1e-15);
  const double q = std::exp(2.5), sum = 1 + q + q * q + q * q * q;
  CHECK(distance(order_weights(soft_best_of{4, 10}), array<double>{{1 / sum, q / sum, q * q / sum, q * q * q / sum}}) <
        1e-15);
  // Of 2 half of the time, of 1 else: the larger of 2 with 3/4.
  CHECK(distance(order_weights(random_best_of{array<double>{{0.5, 0.5}}}), array<double>{{0.25, 0.75}}) < 1e-15);
  CHECK(error_of([] { order_weights(best_of{0}); }) == "best_of: expected n of at least 1, got 0");
}

// A_(0) = r_(0), A_(p) = A_(p−1) + M/(M − p)·(r_(p) − r_(p−1)); R/mean(R) for rewards of 0 and 1.
TEMPLATE_TEST_CASE("MaxRL has the values of its formula, and is the sum of the credits for the best of k over k", "",
                   float, double) {
  using S = TestType;
  const auto A = [](const matrix<S>& r, double constant = 0) { return advantage(r, max_rl{constant}); };
  const matrix<S> graded{{S(.2), S(.5), S(.5), S(.9)}};
  CHECK(distance(A(graded), matrix<double>{{.2, .6, .6, 2.2}}) < 8 * epsilon<S>);
  CHECK(distance(A(graded, 1), matrix<double>{{-.8, -.4, -.4, 1.2}}) < 8 * epsilon<S>);
  CHECK(same(A(matrix<S>{{1, 1, 0, 0}}), matrix<S>{{2, 2, 0, 0}}));
  CHECK(same(A(matrix<S>{{1, 0, 0, 0}}), matrix<S>{{4, 0, 0, 0}}));
  CHECK(same(A(matrix<S>{{0, 0, 0}}), matrix<S>{{0, 0, 0}}));
  CHECK(same(A(matrix<S>{{S(.5)}}), matrix<S>{{S(.5)}}));
  std::mt19937 random(5);
  const matrix<S> r = table_of<S>(2, 9, [&] { return static_cast<double>(random() % 7) / 8; });
  matrix<double> sum = matrix<double>::Zero(2, 9);
  for (int k = 1; k <= 9; ++k) sum += advantage(r, max_at_n{k}).template cast<double>() / k;
  CHECK(distance(A(r), sum) < 400 * epsilon<S>);
}

TEST_CASE("order_weighted and max_rl write to their results if they are called by themselves") {
  const array<double> rewards{{1, 2, 6}};
  const Eigen::Map<const array<double>> group(rewards.data(), 3);
  workspace space;
  for (workspace* memory : {static_cast<workspace*>(nullptr), &space, &space}) {
    array<double> middle(3), likelihood(3);
    order_weighted{array<double>{{0, 1, 0}}, set_baseline::none}(group, middle, memory);
    max_rl{}(group, likelihood, memory);
    CHECK(same(middle, array<double>{{6, 6, 6}}));  // 3·2: there is one set
    CHECK(same(likelihood, array<double>{{1, 2.5, 14.5}}));
  }
}

TEST_CASE("Groups that are too small, wrong weights and rewards out of range are rejected") {
  CHECK(order_weighted{array<double>{{0, 1, 0}}}.smallest_group() == 3);
  CHECK(order_weighted{array<double>{{1}}}.smallest_group() == 1);
  CHECK(order_weighted{array<double>{{1}}, set_baseline::group_mean}.smallest_group() == 2);
  const matrix<double> r{{1, 2}};
  const auto error = [&](const auto& e) { return error_of([&] { advantage(r, e); }); };
  CHECK(error(order_weighted{array<double>{{0, 1, 0}}}) ==
        "advantage: expected at least 3 responses to each prompt for this estimator, got 2 (columns of the rewards)");
  CHECK(error(order_weighted{}) == "order_weighted: expected at least one weight, got none");
  CHECK(error(order_weighted{array<double>{{0, NaN}}}) ==
        "order_weighted: expected finite weights, got NaN at index 1");
  CHECK(error(max_rl{NaN}) == "max_rl: expected a finite constant, got NaN");
  CHECK(error_of([] {
          advantage(matrix<double>{{1, -0.5}}, max_rl{});
        }) == "max_rl: expected rewards of at least 0, got -0.5");
}
