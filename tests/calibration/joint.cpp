// SPDX-License-Identifier: MIT
#include <infalign/calibration/joint.hpp>
#include <infalign/calibration/unbiased_rank.hpp>
#include <infalign/transform/shaping.hpp>
#include <infalign/transform/transforms.hpp>

#include "arrays.hpp"

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <random>
#include <string>
#include <vector>

using namespace infalign;
using Eigen::Index;

namespace {

/// Twice the mid-rank of x among the others.
int twice_rank(double x, const std::vector<double>& others) {
  int c = 0;
  for (const double z : others) c += (z < x) + (z <= x);
  return c;
}

using combination = std::function<double(const std::vector<int>&)>;

/// (below, tied) of responses[0] among the others by its combined score, from the definition.
std::pair<int, int> joint_counts(const std::vector<std::vector<double>>& rewards, const combination& h) {
  const std::size_t n = rewards[0].size();
  std::vector<double> score;
  for (std::size_t i = 0; i < n; ++i) {
    std::vector<int> c;
    for (const auto& r : rewards) {
      auto others = r;
      others.erase(others.begin() + static_cast<long>(i));
      c.push_back(twice_rank(r[i], others));
    }
    score.push_back(h(c));
  }
  std::pair<int, int> result{0, 0};
  for (std::size_t i = 1; i < n; ++i) result.first += score[i] < score[0], result.second += score[i] == score[0];
  return result;
}

const combination sum = [](const std::vector<int>& c) { return c[0] + c[1]; };
const combination minimum = [](const std::vector<int>& c) { return std::min(c[0], c[1]); };
const combination product = [](const std::vector<int>& c) { return c[0] * c[1]; };

}  // namespace

// z = (.1, 30), (.4, 10), (.4, 20), (.8, 40). For y = (.9, 5) twice the ranks sum to 8 for y and to 6, 5, 7, 14 for z; the
// least are 0 and 0, 2, 3, 6; the products 0 and 0, 6, 12, 48.
TEMPLATE_TEST_CASE("Ranks of combined rewards have the values counted by hand", "", float, double) {
  using S = TestType;
  const matrix<S> a{{S(.1), S(.4), S(.4), S(.8)}}, b{{30, 10, 20, 40}};
  const matrix<S> first{{S(.9), S(.5), S(.4)}}, second{{5, 25, 40}};
  CHECK(same(joint_calibration{rank_sum{}, a, b}(first, second), matrix<S>{{S(.75), S(.75), S(.75)}}));
  CHECK(joint_calibration{rank_minimum{}, a, b}(first, second)(0, 0) == S(.125));
  CHECK(joint_calibration{rank_product{}, a, b}(first, second)(0, 0) == S(.125));
}

TEST_CASE("The rank agrees with its definition, for every combination, with ties") {
  std::mt19937 random(2);
  const auto draw = [&] { return static_cast<double>(random() % 5); };
  for (int repeat = 0; repeat < 200; ++repeat) {
    const Index K = 1 + static_cast<Index>(random() % 9);
    const matrix<double> a = table_of<double>(1, K, draw), b = table_of<double>(1, K, draw);
    const double y[] = {draw(), draw()};
    std::vector<std::vector<double>> all{{y[0]}, {y[1]}};
    all[0].insert(all[0].end(), a.data(), a.data() + K);
    all[1].insert(all[1].end(), b.data(), b.data() + K);
    const auto check = [&](const auto& combine, const combination& h) {
      const auto [below, tied] = joint_counts(all, h);
      const double found = joint_calibration{combine, a, b}(matrix<double>{{y[0]}}, matrix<double>{{y[1]}})(0, 0);
      CHECK(found == mid_rank{}(below, tied, K));
    };
    check(rank_sum{}, sum);
    check(rank_minimum{}, minimum);
    check(rank_product{}, product);
    check(weighted_rank_sum{array<double>{{1, 3}}}, [](const auto& c) { return c[0] + 3 * c[1]; });
    check([](const auto& u) { return u.maxCoeff(); }, [](const auto& c) { return std::max(c[0], c[1]); });
    check([](const auto& u) { return std::min(u[0], 0.5); },
          [K](const auto& c) { return std::min(c[0], static_cast<int>(K)); });
  }
}

// π = (.1, .2, .3, .25, .15) with rewards (1, 3), (2, 2), (2, 5), (3, 1), (3, 5). If ties are split at random, the number of
// references below is uniform on 0 .. K: exactly 1/(K + 1) each, in units of 20^(K + 1).
TEST_CASE("Under the reference policy the joint rank is exactly uniform, for dependent rewards with ties") {
  const int weight[] = {2, 4, 6, 5, 3}, first[] = {1, 2, 2, 3, 3}, second[] = {3, 2, 5, 1, 5};
  const auto check = [&](const auto& combine) {
    for (const int K : {1, 2, 3, 4}) {
      std::map<int, double> mass;  // of each number below
      int samples = 1;
      for (int k = 0; k <= K; ++k) samples *= 5;
      for (int sample = 0; sample < samples; ++sample) {
        int digits = sample;
        matrix<double> a(1, K), b(1, K);
        double probability = weight[digits % 5];
        const matrix<double> y{{double(first[digits % 5])}}, v{{double(second[digits % 5])}};
        for (int k = 0; k < K; ++k) {
          digits /= 5;
          a(0, k) = first[digits % 5], b(0, k) = second[digits % 5];
          probability *= weight[digits % 5];
        }
        const auto count = [&](const auto& rank) { return joint_calibration{combine, rank, a, b}(y, v)(0, 0) * K; };
        const int below = static_cast<int>(std::lround(count(strict_rank{}))),
                  up_to = static_cast<int>(std::lround(count(weak_rank{})));
        for (int j = below; j <= up_to; ++j) mass[j] += 12 * probability / (up_to - below + 1);
      }
      for (int j = 0; j <= K; ++j)
        CHECK(mass[j] == near(12 * std::pow(20, K + 1) / (K + 1), 1e-9 * std::pow(20, K + 1)));
    }
  };
  check(rank_sum{});
  check(rank_minimum{});
  check(rank_product{});
  check([](const auto& u) { return u[0] * u[0] + std::min(u[1], 0.4); });
}

// Of independent rewards with calibrated rewards u₁, u₂ the rank of the sum s is 2s² for s ≤ ½ and 1 − 2(1 − s)² above (s the
// mean), that of the minimum is 1 − (1 − s)², and that of the product is s − s·log s.
TEST_CASE("Of independent rewards the joint rank approaches its closed form") {
  const Index n = 200;
  matrix<double> a(1, n * n), b(1, n * n);
  for (Index i = 0; i < n; ++i)
    for (Index j = 0; j < n; ++j) a(0, i * n + j) = static_cast<double>(i), b(0, i * n + j) = static_cast<double>(j);
  const matrix<double> first{{0.9 * n - 0.5}}, second{{0.5 * n - 0.5}};
  const auto rank = [&](const auto& combine) { return joint_calibration{combine, a, b}(first, second)(0, 0); };
  CHECK(rank(rank_sum{}) == near(0.82, 0.005));
  CHECK(rank(rank_minimum{}) == near(0.75, 0.005));
  CHECK(rank(rank_product{}) == near(0.809328463298, 0.005));
}

TEST_CASE("Of one reward it is the calibration, and of two equal ones too") {
  std::mt19937 random(3);
  const auto draw = [&] { return random() % 7; };
  const matrix<float> reference = table_of<float>(4, 9, draw), rewards = table_of<float>(4, 6, draw);
  const auto expected = calibrate(reference, rewards);
  CHECK(same(joint_calibration{rank_sum{}, reference}(rewards), expected));
  CHECK(same(joint_calibration{rank_minimum{}, reference, reference}(rewards, rewards), expected));
  CHECK(same(joint_calibration{rank_sum{}, unbiased_power{3}, reference}(rewards),
             calibrate(reference, rewards, unbiased_power{3})));
}

TEST_CASE("A flat batch, a shaped reward and a caller's buffer have the same ranks as P x M") {
  std::mt19937 random(4);
  const auto draw = [&] { return random() % 7; };
  const matrix<double> a = table_of<double>(3, 5, draw), b = table_of<double>(3, 5, draw),
                       r = table_of<double>(3, 4, draw), s = table_of<double>(3, 4, draw);
  const joint_calibration shape{rank_sum{}, a, b};
  const auto u = shape(r, s);
  const std::vector<int> prompt{2, 0, 0, 1, 2, 2};
  const array<double> flat_r{{r(2, 1), r(0, 0), r(0, 3), r(1, 1), r(2, 0), r(2, 3)}},
      flat_s{{s(2, 1), s(0, 0), s(0, 3), s(1, 1), s(2, 0), s(2, 3)}};
  const array<double> flat{{u(2, 1), u(0, 0), u(0, 3), u(1, 1), u(2, 0), u(2, 3)}};
  CHECK(same(shape(prompt, flat_r, flat_s), flat));
  CHECK(same(shape(prompt, flat_r, flat_s.transpose().eval()), flat));
  const std::vector<double> list_r(flat_r.begin(), flat_r.end()), list_s(flat_s.begin(), flat_s.end());
  CHECK(same(shape(prompt, list_r, list_s), flat));
  CHECK(same(shape(prompt, flat_r, list_s), flat));
  const auto shaped = shape | normalized_exponential{10} | [](double x) { return 2 * x; };
  CHECK(same(shaped(r, s), (2 * transform(u, normalized_exponential{10})).eval()));
  surrounded<double> buffer(3, 4);
  auto block = buffer.block();
  shaped.into(block, r, s);
  CHECK(same(block, shaped(r, s)));
  CHECK(buffer.rest_unchanged());
  matrix<double> in_place = r;
  shape.into(in_place, in_place, s);
  CHECK(same(in_place, u));
  array<double> result(6);
  shape.into(result, prompt, flat_r, flat_s);
  CHECK(same(result, flat));
  const ragged lists(std::vector<std::vector<double>>{{1, 2}, {3}}),
      more(std::vector<std::vector<double>>{{5, 4}, {6}});
  CHECK(same(joint_calibration{rank_sum{}, lists, more}(matrix<double>{{3}, {3}}, matrix<double>{{6}, {5}}),
             matrix<double>{{1}, {0}}));
}

TEST_CASE("NaN in one reward is an error, or takes that response out") {
  const matrix<double> a{{1, 2, NaN, 4}}, b{{1, NaN, 3, 4}}, full{{1, 2, 3, 4}};
  const joint_calibration shape{rank_sum{}, mid_rank{}, unscored::propagate, a, b};
  const matrix<double> two{{1, 4}}, also{{1, 4}};
  const auto u = shape(matrix<double>{{2, NaN, 2}}, matrix<double>{{2, 2, NaN}});
  CHECK(u(0, 0) == calibrate(two, matrix<double>{{2}})(0, 0));
  CHECK(std::isnan(u(0, 1)));
  CHECK(std::isnan(u(0, 2)));
  const joint_calibration nothing{rank_sum{}, mid_rank{}, unscored::propagate, matrix<double>{{NaN, 1}},
                                  matrix<double>{{1, NaN}}};
  CHECK(std::isnan(nothing(matrix<double>{{2}}, matrix<double>{{2}})(0, 0)));
  const auto error = [](const auto& functor, const auto& r, const auto& s) { return error_of([&] { functor(r, s); }); };
  const matrix<double> y{{1, 2}};
  CHECK(error(joint_calibration{rank_sum{}, full, b}, y, y) ==
        "joint_calibration: expected reference rewards that are numbers, got NaN at row 0, column 1 of reward 1");
  CHECK(error(joint_calibration{rank_sum{}, full, full}, y, matrix<double>{{1, NaN}}) ==
        "joint_calibration: expected rewards that are numbers, got NaN at row 0, column 1");
}

TEST_CASE("Shapes that differ and wrong parameters are rejected") {
  const matrix<double> a{{1, 2, 3}}, y{{1, 2}};
  const auto error = [](auto f) { return error_of(f); };
  const joint_calibration shape{rank_sum{}, a, a};
  CHECK(error([&] { shape(y, a); }) ==
        "joint_calibration: expected rewards of 1 x 2, as the first, got 1 x 3 for reward 1");
  CHECK(error([&] { shape(std::vector<int>{0, 0}, array<double>{{1, 2}}, array<double>{{1}}); }) != "no error");
  CHECK(error([&] {
          shape(std::vector<int>{0, 1}, array<double>{{1, 2}}, array<double>{{1, 2}});
        }) == "joint_calibration: expected prompt indices from 0 to 0, got 1 at index 1");
  CHECK(error([&] {
          joint_calibration{rank_sum{}, a, y}(y, y);
        }) == "joint_calibration: expected 3 reference rewards, as many as of the first reward, got 2");
  CHECK(error([&] {
          joint_calibration{rank_sum{}, a, matrix<double>(2, 3)}(y, y);
        }) == "joint_calibration: expected 2 rows of rewards, one for each row of the reference, got 1");
  CHECK(error([&] {
          joint_calibration{rank_sum{}, matrix<double>(1, 0), matrix<double>(1, 0)}(y, y);
        }) == "joint_calibration: expected at least one reference reward for each prompt, got none for prompt 0");
  CHECK(error([&] {
          joint_calibration{[](const auto& u) { return u[0] * NaN; }, a, a}(y, y);
        }) == "joint_calibration: expected a combination that is a number, got NaN");
  const auto weights = [&](array<double> w) {
    return error_of([&] { joint_calibration{weighted_rank_sum{w}, a, a}; });
  };
  CHECK(weights(array<double>{{1, 2}}) == "no error");
  CHECK(weights(array<double>{{1}}) == "weighted_rank_sum: expected 2 weights, one for each reward, got 1");
  CHECK(weights(array<double>{{1, -1}}) == "weighted_rank_sum: expected weights of at least 0, got -1 at index 1");
  CHECK(weights(array<double>{{0, 0}}) == "weighted_rank_sum: expected a weight above 0, got none");
  matrix<double> table = a;
  const Eigen::Map<const matrix<double>> view(table.data(), 1, 3);
  CHECK(error([&] {
          auto result = table.leftCols(2);
          joint_calibration{rank_sum{}, view, view}.into(result, y, y);
        }) != "no error");
}
