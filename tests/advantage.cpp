// SPDX-License-Identifier: MIT
#include "catch.hpp"

#include <infalign/advantage.hpp>
#include <infalign/max_at_n.hpp>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

using namespace infalign;
using Eigen::Index;

namespace {

template <class S>
const S missing = std::numeric_limits<S>::quiet_NaN();

template <class A, class B>
bool same(const A& a, const B& b) {
  return a.rows() == b.rows() && a.cols() == b.cols() && (a == b).all();
}

/// The largest difference, infinite where the shapes differ.
template <class A, class B>
double distance(const A& a, const B& b) {
  if (a.rows() != b.rows() || a.cols() != b.cols()) return INFINITY;
  return static_cast<double>((a - b).abs().maxCoeff());
}

/// All baselines for groups of at least `largest` responses, one after another.
template <class F>
void for_each_group_baseline(int largest, F f) {
  f(group_mean{});
  f(leave_one_out{});
  f(group_standardized{});
  f(group_standardized{.epsilon = 0});
  for (int n = 2; n <= largest; ++n) {
    f(max_at_n{n});
    f(min_at_n{n});
    f(centered_max_at_n{n});
  }
  f(centered_max_at_n{1});
}

/// A user's own baseline, with its own need and check.
struct less_the_best {
  int need;
  int smallest_group() const { return need; }
  void check() const { detail::check_size("less_the_best", "as its need", 3, need); }
  template <vector_expression R>
  auto operator()(const R& r) const {
    return r - r.maxCoeff();
  }
};

}  // namespace

TEMPLATE_TEST_CASE("Each baseline, by hand", "", float, double) {
  using S = TestType;
  const matrix<S> rewards{{1, 2, 6}, {3, 0, 0}};
  const auto check = [&](const auto& baseline, const matrix<double>& expected) {
    const matrix<S> a = advantage(rewards, baseline);
    CHECK(distance(a.template cast<double>(), expected) < 8 * std::numeric_limits<S>::epsilon());
  };
  check(no_baseline{}, {{1, 2, 6}, {3, 0, 0}});
  check(batch_mean{}, {{-1, 0, 4}, {1, -2, -2}});
  check(group_mean{}, {{-2, -1, 3}, {2, -1, -1}});
  check(leave_one_out{}, {{-3, -1.5, 4.5}, {3, -1.5, -1.5}});  // 1 − (2 + 6)/2 ..
  const double s = std::sqrt((4. + 1 + 9) / 2), z = std::sqrt((4. + 1 + 1) / 2);
  check(group_standardized{.epsilon = 0}, {{-2 / s, -1 / s, 3 / s}, {2 / z, -1 / z, -1 / z}});
  check(group_standardized{.epsilon = 0.5},
        {{-2 / (s + 0.5), -1 / (s + 0.5), 3 / (s + 0.5)}, {2 / (z + 0.5), -1 / (z + 0.5), -1 / (z + 0.5)}});
  check(group_standardized{},
        {{-2 / (s + 1e-4), -1 / (s + 1e-4), 3 / (s + 1e-4)}, {2 / (z + 1e-4), -1 / (z + 1e-4), -1 / (z + 1e-4)}});
  // Pairs of 1 2 6: the maximum less that without i, (6 − 1) + (6 − 2) for the 6 and 2 − 1 for the 2. M/C(M, 2) = 1.
  check(max_at_n{2}, {{0, 1, 9}, {6, 0, 0}});
  check(max_at_n{3}, {{0, 0, 12}, {9, 0, 0}});  // M/C(M, 3) = 3
  check(max_at_n{1}, {{1, 2, 6}, {3, 0, 0}});
  check(min_at_n{2}, {{-6, -4, 0}, {0, -3, -3}});
  check(min_at_n{3}, {{-3, 0, 0}, {0, 0, 0}});
  check(min_at_n{1}, {{1, 2, 6}, {3, 0, 0}});
  check(centered_max_at_n{2}, {{-4. / 3, -4. / 3, 8. / 3}, {2, -1, -1}});  // 8 8 12 and 6 3 3 less their means
  check(centered_max_at_n{3}, {{0, 0, 0}, {0, 0, 0}});
  check(centered_max_at_n{1}, {{-2, -1, 3}, {2, -1, -1}});
}

// A_i = M/C(M, n)·Σ over sets S of n with i of (max over S − max over S∖i), max ∅ = 0.
TEMPLATE_TEST_CASE("Credit for the best and the worst of n is a sum over subsets", "", float, double) {
  using S = TestType;
  std::mt19937 random(1);
  for (Index M = 1; M <= 7; ++M)
    for (int n = 1; n <= M; ++n)
      for (int repeat = 0; repeat < 4; ++repeat) {
        const matrix<S> r = matrix<S>::NullaryExpr(1, M, [&] { return static_cast<S>(random() % 6) / 4 - 1; });
        matrix<double> best = matrix<double>::Zero(1, M), worst = best, with = best;
        double sets = 0;
        for (unsigned set = 0; set < 1u << M; ++set) {
          if (std::popcount(set) != n) continue;
          ++sets;
          const auto extreme = [&](unsigned of, double sign) {
            double most = of == 0 ? 0 : -INFINITY;
            for (Index i = 0; i < M; ++i)
              if (of >> i & 1) most = std::max(most, sign * static_cast<double>(r(0, i)));
            return sign * most;
          };
          for (Index i = 0; i < M; ++i)
            if (set >> i & 1) {
              best(0, i) += extreme(set, 1) - extreme(set & ~(1u << i), 1);
              worst(0, i) += extreme(set, -1) - extreme(set & ~(1u << i), -1);
              with(0, i) += extreme(set, 1);
            }
        }
        const double scale = static_cast<double>(M) / sets, tolerance = 40 * std::numeric_limits<S>::epsilon();
        const auto found = [&](const auto& baseline) {
          return matrix<double>(advantage(r, baseline).template cast<double>());
        };
        CHECK(distance(found(max_at_n{n}), scale * best) < tolerance);
        CHECK(distance(found(min_at_n{n}), scale * worst) < tolerance);
        if (M > 1) CHECK(distance(found(centered_max_at_n{n}), scale * (with - with.mean())) < tolerance);
      }
}

TEMPLATE_TEST_CASE("Equal rewards have no advantage, exactly", "", float, double) {
  using S = TestType;
  for (S value : {S(0.1), S(1) / 3, S(-7.3), S(1e30), S(-1e-30), std::numeric_limits<S>::max()})
    for (Index M = 2; M <= 11; ++M)
      for_each_group_baseline(static_cast<int>(M), [&](const auto& baseline) {
        CHECK(same(advantage(matrix<S>::Constant(2, M, value), baseline), matrix<S>::Zero(2, M)));
      });
}

TEMPLATE_TEST_CASE("Rewards far from 0 keep their differences", "", float, double) {
  using S = TestType;
  const S far = S{1} / std::numeric_limits<S>::epsilon();
  const matrix<S> rewards{{far, far + 1, far + 5}};
  CHECK(same(advantage(rewards, group_mean{}), matrix<S>{{-2, -1, 3}}));
  CHECK(same(advantage(rewards, leave_one_out{}), matrix<S>{{-3, -1.5, 4.5}}));
  CHECK(same(advantage(rewards, max_at_n{2}), matrix<S>{{0, 1, 9}}));
  CHECK(same(advantage(rewards, group_standardized{}), advantage(matrix<S>{{0, 1, 5}}, group_standardized{})));
}

TEMPLATE_TEST_CASE("Standardised rewards do not depend on their scale, however large or small", "", float, double) {
  using S = TestType;
  const bool single = std::same_as<S, float>;
  const matrix<S> expected = advantage(matrix<S>{{1, 2, 6}}, group_standardized{.epsilon = 0});
  for (double scale : {single ? 1e-30 : 1e-300, 1e-20, 1e20, single ? 5e37 : 1e200, single ? -5e37 : 2e307}) {
    CAPTURE(scale);
    const matrix<S> rewards = matrix<S>{{1, 2, 6}} * static_cast<S>(scale);
    CHECK(distance(advantage(rewards, group_standardized{.epsilon = 0}), scale > 0 ? expected : matrix<S>(-expected)) <
          8 * static_cast<double>(std::numeric_limits<S>::epsilon()));
  }
}

TEMPLATE_TEST_CASE("Advantages that are not finite are refused, and so is a baseline that gives too few", "", float,
                   double) {
  using S = TestType;
  const S most = std::numeric_limits<S>::max(), none = missing<S>;
  const auto first_only = [](const auto& r) {
    using T = typename std::remove_cvref_t<decltype(r)>::Scalar;
    return r * (r[0] > 0 ? T{1} : missing<T>);
  };
  const auto error = [](const matrix<S>& r, const auto& baseline) {
    return error_of([&] { advantage(r, baseline, unscored::carry); });
  };
  const matrix<S> far{{none, most, -most}};
  CHECK(error(far, leave_one_out{}) == "advantage: expected finite advantages, got inf at row 0, column 1");
  CHECK(error(far, max_at_n{2}) == "advantage: expected finite advantages, got inf at row 0, column 1");
  CHECK(error(matrix<S>{{1, 2}, {3, 4}}, [](const auto& r) { return 1 / (r - r[0]).square(); }) ==
        "advantage: expected finite advantages, got inf at row 0, column 0");
  CHECK(error(matrix<S>{{1, 2}, {0, 4}}, first_only) ==
        "advantage: expected finite advantages, got NaN at row 1, column 0");
  CHECK(error_of([&] {
          advantage(std::vector<int>{1, 2, 1}, array<S>{{most, 3, -most}}, leave_one_out{});
        }) == "advantage: expected finite advantages, got inf at index 0");
  const auto sized = [](Index more) {
    return [more](const auto& r) {
      return array<typename std::remove_cvref_t<decltype(r)>::Scalar>::Ones(r.size() + more).eval();
    };
  };
  CHECK(error(matrix<S>{{none, 1, 2}}, sized(0)) == "no error");
  for (Index more : {-1, 1})
    CHECK(error(matrix<S>{{none, 1, 2}}, sized(more)) ==
          "advantage: expected 2 advantages from the baseline, one for each reward of its group, got " +
              std::to_string(2 + more));
  // In rows or of Eigen's matrix kind, they are advantages all the same.
  const matrix<S> rewards{{1, 2, 6}}, negated = -rewards;
  CHECK(same(advantage(rewards, [](const auto& r) { return -r.transpose(); }), negated));
  CHECK(same(advantage(rewards, [](const auto& r) { return -r.matrix(); }), negated));
}

TEMPLATE_TEST_CASE("An unscored response gets 0, and its siblings are as if it were not there", "", float, double) {
  using S = TestType;
  const S none = missing<S>;
  const matrix<S> rewards{{1, none, 2, 6}, {none, none, none, 5}, {none, none, none, none}};
  const matrix<S> alone{{1, 2, 6}};
  const auto check = [&](const auto& baseline) {
    const matrix<S> a = advantage(rewards, baseline, unscored::carry), without = advantage(alone, baseline);
    CHECK(same(a, matrix<S>{{without(0, 0), 0, without(0, 1), without(0, 2)}, {0, 0, 0, 0}, {0, 0, 0, 0}}));
    CHECK(same(
        advantage(std::vector<int>{4, 4, 9, 4, 9, 4}, array<S>{{1, none, 5, 2, none, 6}}, baseline, unscored::carry),
        array<S>{{a(0, 0), 0, 0, a(0, 2), 0, a(0, 3)}}));
  };
  for_each_group_baseline(3, check);
  CHECK(same(advantage(rewards, max_at_n{4}, unscored::carry), matrix<S>::Zero(3, 4)));
  CHECK(same(advantage(rewards, no_baseline{}, unscored::carry), matrix<S>{{1, 0, 2, 6}, {0, 0, 0, 5}, {0, 0, 0, 0}}));
  // The mean of 1 2 6 5.
  CHECK(same(advantage(rewards, batch_mean{}, unscored::carry),
             matrix<S>{{-2.5, 0, -1.5, 2.5}, {0, 0, 0, 1.5}, {0, 0, 0, 0}}));
  CHECK(same(advantage(matrix<S>::Constant(2, 2, none), batch_mean{}, unscored::carry), matrix<S>::Zero(2, 2)));
}

TEMPLATE_TEST_CASE("In a flat batch a group too small for the baseline gets 0", "", float, double) {
  using S = TestType;
  const std::vector<int> prompt{3, -1, 3, 8, 8, 3};
  const array<S> rewards{{1, 7, 2, 3, 5, 6}};
  CHECK(same(advantage(prompt, rewards, leave_one_out{}), array<S>{{-3, 0, -1.5, -2, 2, 4.5}}));
  CHECK(same(advantage(prompt, rewards, max_at_n{3}), array<S>{{0, 0, 0, 0, 0, 12}}));
  CHECK(same(advantage(prompt, rewards, max_at_n{1}), rewards));
  CHECK(same(advantage(prompt, rewards, batch_mean{}), rewards - 4));
  CHECK(same(advantage(std::vector<int>{1, 2, 3, 4, 5, 6}, rewards, group_standardized{}), array<S>::Zero(6)));
  CHECK(advantage(std::vector<int>{}, array<S>(), group_mean{}).size() == 0);
}

TEMPLATE_TEST_CASE("A flat batch and a matrix agree, bit for bit, in whatever order and kind they come", "", float,
                   double) {
  using S = TestType;
  std::mt19937 random(2);
  const Index P = 9, M = 5;
  const matrix<S> rewards = matrix<S>::NullaryExpr(P, M, [&] { return static_cast<S>(random() % 97) / 7; });
  std::vector<Index> order(P * M), prompt;
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = static_cast<Index>(i);
  std::sort(order.begin(), order.end(), [](Index a, Index b) { return a % 5 * 100 + a / 5 < b % 5 * 100 + b / 5; });
  array<S> flat(P * M);
  for (Index i = 0; i < P * M; ++i) {
    prompt.push_back(-7 * (order[static_cast<std::size_t>(i)] / M));
    flat[i] = rewards.data()[order[static_cast<std::size_t>(i)]];
  }
  const Eigen::Array<S, Eigen::Dynamic, Eigen::Dynamic> by_columns = rewards;
  for_each_group_baseline(static_cast<int>(M), [&](const auto& baseline) {
    const matrix<S> a = advantage(rewards, baseline);
    const array<S> b = advantage(prompt, flat, baseline);
    bool equal = true;
    for (Index i = 0; i < P * M; ++i) equal = equal && b[i] == a.data()[order[static_cast<std::size_t>(i)]];
    CHECK(equal);
    CHECK(same(advantage(by_columns.matrix(), baseline), a));
    CHECK(same(advantage(rewards.row(3), baseline), a.row(3)));
    CHECK(same(advantage(prompt, flat.matrix().transpose(), baseline), b));
  });
}

TEMPLATE_TEST_CASE("What is called linear is linear", "", float, double) {
  using S = TestType;
  const matrix<S> a{{1, 2, 6, 0}, {3, 0, -4, 1}}, b{{-2, 8, 4, 2}, {0, 0, 4, -8}};  // exact in all that follows
  const auto is_linear = [&](const auto& baseline) {
    return same(advantage(a + 2 * b, baseline), advantage(a, baseline) + 2 * advantage(b, baseline));
  };
  STATIC_REQUIRE(no_baseline::linear && batch_mean::linear && group_mean::linear && leave_one_out::linear);
  CHECK(is_linear(no_baseline{}));
  CHECK(is_linear(batch_mean{}));
  CHECK(is_linear(group_mean{}));
  CHECK(distance(advantage(a + b, leave_one_out{}), advantage(a, leave_one_out{}) + advantage(b, leave_one_out{})) <
        16 * static_cast<double>(std::numeric_limits<S>::epsilon()));
  STATIC_REQUIRE(!detail::linear<group_standardized> && !detail::linear<max_at_n> && !detail::linear<min_at_n>);
  CHECK(!is_linear(group_standardized{}));
  CHECK(!is_linear(max_at_n{2}));
  CHECK(!is_linear(min_at_n{2}));
}

TEMPLATE_TEST_CASE("A user's baseline is any function of a group", "", float, double) {
  using S = TestType;
  const matrix<S> rewards{{1, 2, 6}};
  const auto less_the_first = [](const auto& r) { return r - r[0]; };
  CHECK(same(advantage(rewards, less_the_first), matrix<S>{{0, 1, 5}}));
  CHECK(same(advantage(matrix<S>{{4}}, less_the_first), matrix<S>{{0}}));
  CHECK(same(advantage(rewards, less_the_best{3}), matrix<S>{{-5, -4, 0}}));
  CHECK(same(advantage(std::vector<int>{0, 0, 1, 1, 1}, array<S>{{1, 2, 3, 4, 5}}, less_the_best{3}),
             array<S>{{0, 0, -2, -1, 0}}));
  CHECK(error_of([&] { advantage(rewards, less_the_best{2}); }) == "less_the_best: expected 3 as its need, got 2");
  CHECK(error_of([&] {
          advantage(matrix<S>{{1, 2}}, less_the_best{3});
        }) ==
        "advantage: expected at least 3 responses to each prompt for this baseline, got 2 (columns of the rewards)");
  STATIC_REQUIRE(group_baseline<less_the_best> && !group_baseline<batch_mean> && advantage_baseline<batch_mean>);
  const auto total = [](const auto& r) { return r.sum(); };
  STATIC_REQUIRE(!advantage_baseline<int> && !advantage_baseline<decltype(total)>);
}

TEMPLATE_TEST_CASE("What cannot be learnt from is refused", "", float, double) {
  using S = TestType;
  const auto error = [](const matrix<S>& r, const auto& baseline) { return error_of([&] { advantage(r, baseline); }); };
  const matrix<S> rewards{{1, 2, 6}};
  const std::string columns = " responses to each prompt for this baseline, got ";
  CHECK(error(matrix<S>{{1}, {2}}, leave_one_out{}) ==
        "advantage: expected at least 2" + columns + "1 (columns of the rewards)");
  CHECK(error(matrix<S>{{1}}, group_mean{}) != "no error");
  CHECK(error(matrix<S>{{1}}, group_standardized{}) != "no error");
  CHECK(error(matrix<S>{{1}}, centered_max_at_n{1}) != "no error");
  CHECK(error(matrix<S>{{1}}, no_baseline{}) == "no error");
  CHECK(error(rewards, max_at_n{4}) == "advantage: expected at least 4" + columns + "3 (columns of the rewards)");
  CHECK(error(rewards, min_at_n{4}) == "advantage: expected at least 4" + columns + "3 (columns of the rewards)");
  CHECK(error(rewards, max_at_n{0}) == "max_at_n: expected n of at least 1, got 0");
  CHECK(error(rewards, min_at_n{-1}) == "min_at_n: expected n of at least 1, got -1");
  CHECK(error(rewards, centered_max_at_n{0}) == "centered_max_at_n: expected n of at least 1, got 0");
  CHECK(error(rewards, group_standardized{-1}) == "group_standardized: expected epsilon finite and at least 0, got -1");
  CHECK(error(rewards, group_standardized{INFINITY}) ==
        "group_standardized: expected epsilon finite and at least 0, got inf");
  CHECK(error({{1, 2}, {missing<S>, 1}}, group_mean{}) ==
        "advantage: expected rewards that are numbers, got NaN at row 1, column 0");
  CHECK(error({{1, 2}, {1, -INFINITY}}, group_mean{}) ==
        "advantage: expected finite rewards, got -inf at row 1, column 1");
  const std::vector<int> prompt{0, 0};
  const auto flat_error = [&](const array<S>& r, unscored policy) {
    return error_of([&] { advantage(prompt, r, leave_one_out{}, policy); });
  };
  CHECK(flat_error({{1, 2, 3}}, unscored::error) == "advantage: expected 3 prompt indices, one for each reward, got 2");
  CHECK(flat_error({{1, missing<S>}}, unscored::error) ==
        "advantage: expected rewards that are numbers, got NaN at index 1");
  CHECK(flat_error({{missing<S>, INFINITY}}, unscored::carry) ==
        "advantage: expected finite rewards, got inf at index 1");
}
