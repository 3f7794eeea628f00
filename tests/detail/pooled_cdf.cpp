// SPDX-License-Identifier: MIT
#include <infalign/detail/pooled_cdf.hpp>

#include "arrays.hpp"

#include <cmath>
#include <functional>
#include <random>
#include <vector>

using namespace infalign;

namespace {

/// Distributions that differ in what is hard about them.
template <class S>
std::vector<std::pair<const char*, std::function<S(std::mt19937&)>>> distributions() {
  return {{"normal", [](auto& g) { return static_cast<S>(std::normal_distribution<double>()(g)); }},
          {"far from 0", [](auto& g) { return static_cast<S>(1e4 + std::uniform_real_distribution<double>()(g)); }},
          {"heavy tails", [](auto& g) { return static_cast<S>(std::cauchy_distribution<double>()(g)); }},
          {"many scales", [](auto& g) { return static_cast<S>(std::exp(8 * std::normal_distribution<double>()(g))); }},
          {"ties", [](auto& g) { return static_cast<S>(g() % 7) - 3; }},
          {"ties and numbers",
           [](auto& g) { return g() % 2 ? S{0} : static_cast<S>(std::normal_distribution<double>()(g)); }},
          {"infinite", [](auto& g) {
             return g() % 9 == 0 ? -infinity<S> : g() % 9 == 0 ? infinity<S> : static_cast<S>(g() % 1000);
           }}};
}

/// The mid-rank CDF by sorting.
template <class S>
double by_sorting(const std::vector<S>& sorted, S r) {
  const auto low = std::lower_bound(sorted.begin(), sorted.end(), r), high = std::upper_bound(low, sorted.end(), r);
  return 0.5 * static_cast<double>((low - sorted.begin()) + (high - sorted.begin())) /
         static_cast<double>(sorted.size());
}

}  // namespace

TEMPLATE_TEST_CASE("Numbers sort by their bits as they do by comparison", "", float, double) {
  using S = TestType;
  std::mt19937 random(1);
  for (const auto& [name, draw] : distributions<S>())
    for (const std::size_t n : {0u, 1u, 100u, 5000u, 70000u}) {
      std::vector<S> x(n);
      for (S& y : x) y = draw(random);
      auto expected = x;
      std::sort(expected.begin(), expected.end());
      detail::sort_numbers(x);
      INFO(name << ", n = " << n);
      CHECK(x == expected);
    }
  CHECK(detail::order_key(S{-0.0}) == detail::order_key(S{0}));
  CHECK(detail::order_key(-infinity<S>) < detail::order_key(S{-1}));
}

TEMPLATE_TEST_CASE("The CDF of few numbers is exact, and that of many is exact to 1e-4, in whatever pieces they came",
                   "", float, double) {
  using S = TestType;
  for (const auto& [name, draw] : distributions<S>())
    for (const std::size_t n : {1u, 50u, 3000u, 400000u})
      for (const std::size_t piece : {n, (n + 12) / 13}) {
        if (n == 1 && piece != n) continue;
        std::mt19937 random(3);
        std::vector<S> all(n);
        for (S& y : all) y = draw(random);
        detail::pooled_cdf<S> cdf;
        for (std::size_t first = 0; first < n; first += piece) {
          std::vector<S> some(all.begin() + static_cast<std::ptrdiff_t>(first),
                              all.begin() + static_cast<std::ptrdiff_t>(std::min(n, first + piece)));
          detail::sort_numbers(some);
          cdf.add_sorted(some);
        }
        const detail::cdf_table<S> table(cdf, [](double u) { return u; });
        detail::sort_numbers(all);
        double worst = 0;
        bool increasing = true;
        S before = 0;
        std::vector<S> asked;
        for (std::size_t i = 0; i < n; i += n / 2000 + 1) {
          asked.push_back(all[i]);
          if (std::isfinite(all[i])) asked.push_back(static_cast<S>(all[i] + std::abs(all[i]) * S(1e-3)));
          asked.push_back(draw(random));
        }
        asked.insert(asked.end(), {-infinity<S>, infinity<S>, all.front(), all.back()});
        std::sort(asked.begin(), asked.end());
        for (const S r : asked) {
          const S y = table(r);
          worst = std::max(worst, std::abs(static_cast<double>(y) - by_sorting(all, r)));
          increasing = increasing && y >= before;
          before = y;
        }
        INFO(name << ", n = " << n << ", pieces of " << piece << ", " << cdf.value.size() << " knots");
        CHECK(worst < (n <= 3000 ? 4 * epsilon<S> : 1e-4));
        CHECK(increasing);
        CHECK(cdf.value.size() <= 4 * detail::pooled_cdf<S>::capacity);
        CHECK(cdf.total == static_cast<double>(n));
      }
}

TEST_CASE("The mean difference of mid-ranks is that over all pairs") {
  std::mt19937 random(5);
  std::vector<double> x(300);
  for (double& y : x) y = static_cast<double>(random() % 90);
  std::sort(x.begin(), x.end());
  double sum = 0;
  for (std::size_t i = 0; i < x.size(); ++i)
    for (std::size_t j = 0; j < i; ++j) sum += std::abs(by_sorting(x, x[i]) - by_sorting(x, x[j]));
  detail::pooled_cdf<double> cdf;
  cdf.add_sorted(x);
  CHECK(cdf.mean_difference() == Approx(sum / (300 * 299 / 2)).epsilon(1e-12));
  // Of distinct numbers it is (n + 1)/(3n). Most of them are between two knots of the CDF.
  for (const int n : {1000, 200'000}) {
    std::vector<double> distinct(static_cast<std::size_t>(n));
    for (int i = 0; i < n; ++i) distinct[static_cast<std::size_t>(i)] = std::exp(1e-4 * i);
    cdf = {};
    cdf.add_sorted(distinct);
    CHECK(cdf.mean_difference() == near((n + 1.) / (3. * n), 1e-10));
  }
  cdf = {};
  CHECK(detail::cdf_table<double>(cdf, [](double u) { return u; })(3.0) == 0);
}

TEMPLATE_TEST_CASE("The table of the normal CDF is right to 1e-6", "", float, double) {
  const detail::normal_table<TestType> table;
  for (double x = -20; x < 20; x += 0.0137)
    CHECK(std::abs(static_cast<double>(table(static_cast<TestType>(x))) -
                   0.5 * std::erfc(-static_cast<double>(static_cast<TestType>(x)) / std::sqrt(2.0))) < 1e-6);
  CHECK(table(infinity<TestType>) > TestType(0.999999));
  CHECK(table(-infinity<TestType>) < TestType(0.000001));
}
