// SPDX-License-Identifier: MIT
#include <infalign/calibration/calibrate.hpp>
#include <infalign/calibration/unbiased_rank.hpp>
#include <infalign/theory/best_exponential.hpp>
#include <infalign/theory/log_partition.hpp>
#include <infalign/theory/optimal_transform.hpp>

#include "arrays.hpp"

#include <cmath>
#include <functional>
#include <string>
#include <vector>

using namespace infalign;
using Eigen::Index;

namespace {
constexpr double inf = std::numeric_limits<double>::infinity();
}  // namespace

// Values by quadrature with 30 digits (Python's mpmath).
TEST_CASE("log Z of a transform has the value of its integral") {
  CHECK(log_partition(exponential{10}, at_beta{5000}) == near(1.225154953392331, 1e-11));
  CHECK(log_partition(exponential{-10}, at_beta{.1}) == near(-0.3395862154171346, 1e-11));
  CHECK(log_partition(normalized_exponential{10}, at_beta{.05}) == near(14.75608119589513, 1e-10));
  CHECK(log_partition(normalized_exponential{10}, at_beta{.2}) == near(1.56849490691327, 1e-11));
  CHECK(log_partition(normalized_exponential{12.6}, at_beta{.31}) == near(0.5761826235032839, 1e-11));
  CHECK(log_partition(normalized_exponential{-10}, at_beta{.2}) == near(4.753351575625241, 1e-10));
  CHECK(log_partition(normalized_exponential{-3.7}, at_beta{.3}) == near(2.786929780648721, 1e-10));
  CHECK(log_partition(power{7}, at_beta{.2}) == near(1.817779484955624, 1e-11));
  CHECK(log_partition(power{2}, at_beta{.1}) == near(7.063245458632609, 1e-10));
  // With β = 1/(n − 1), Z is that of the soft choice itself: (q^n − 1)/(n·(q − 1)), q = e^{λ/n}.
  CHECK(log_partition(soft_logarithm{4, 10}, at_beta{1. / 3}) ==
        near(std::log(std::expm1(10) / (4 * std::expm1(2.5))), 1e-10));
}

TEST_CASE("log Z of the identity and of the logarithm is exact for every beta, and agrees with the integral") {
  CHECK(log_partition(identity{}, at_beta{.1}) == near(7.697369506045584, 1e-14));
  CHECK(log_partition(identity{}, at_beta{.5}) == near(1.161439361571196, 1e-15));
  CHECK(log_partition(identity{}, at_beta{.003}) == near(327.5241903430193, 1e-12));
  CHECK(log_partition(identity{}, at_beta{1e-9}) == near(1e9 + std::log(1e-9), 1e-6));
  CHECK(log_partition(identity{}, at_beta{1e8}) == near(5e-9, 1e-16));  // 1/(2β)
  CHECK(log_partition(logarithm{}, at_beta{1. / 3}) == near(-1.386294361119891, 1e-15));
  for (const double beta : {0.02, 0.1, 0.7, 5., 99., 101.}) {
    CHECK(log_partition(identity{}, at_beta{beta}) ==
          near(log_partition([](double u) { return u; }, at_beta{beta}), 1e-10 * (1 + 1 / beta)));
    CHECK(log_partition(logarithm{}, at_beta{beta}) ==
          near(log_partition([](double u) { return std::log(u); }, at_beta{beta}), 1e-10));
  }
}

TEST_CASE("Every description of a policy reports its log Z: log p(u) = Φ(u)/β − log Z") {
  const aligned_policy policy(normalized_exponential{10}, at_kl{0.5});
  for (const double u : {0., 0.3, 1.})
    CHECK(policy.log_density(u) == near(normalized_exponential{10}(u) / policy.beta() - policy.log_partition(), 1e-11));
  const auto exponential = best_exponential(best_of{4}, at_kl{0.5});
  CHECK(exponential.log_partition() == near(log_partition(exponential.transform, at_beta{exponential.beta}), 1e-11));
  const auto optimum = optimal_transform(best_of{4}, at_beta{0.2});
  CHECK(optimum.log_partition() == near(0.62735907482, 1e-9));  // of the boundary-value problem
  CHECK(optimum.log_partition() == near(log_partition(optimum.transform, at_beta{0.2}), 1e-7));  // of the table
}

// Values by sums and quadratures with 30 digits (mpmath).
TEST_CASE("log Z from K reference rewards: of the mean shaped reward, and the mean over reference samples") {
  const auto check = [](const auto& phi, double beta, double at_4, double at_8, double at_32, double once_4,
                        double once_8, double once_32) {
    const auto of_tables = [&](double K) { return log_mean_partition(phi, at_beta{beta}, at_count{K}); };
    const auto once = [&](double K) { return log_partition(phi, at_beta{beta}, at_count{K}); };
    CHECK(of_tables(4) == near(at_4, 1e-9));
    CHECK(of_tables(8) == near(at_8, 1e-9));
    CHECK(of_tables(32) == near(at_32, 1e-9));
    CHECK(once(4) == near(once_4, 1e-9));
    CHECK(once(8) == near(once_8, 1e-9));
    CHECK(once(32) == near(once_32, 1e-9));
  };
  check(identity{}, .05, 18.397322837, 17.88842590624, 17.26977268079, 17.00426772438, 17.00426772438, 17.00426772438);
  check(identity{}, .1, 8.476208844648, 8.140341980369, 7.818794328318, 7.697369506046, 7.697369506046, 7.697369506046);
  check(normalized_exponential{10}, .2, 3.420718110205, 2.879697860965, 2.01077696428, 2.350637530916, 1.996604209677,
        1.681369736639);
  check(normalized_exponential{-10}, .2, 4.681115795668, 4.71274081425, 4.742476936505, 4.439158751367, 4.611053891841,
        4.721213621749);
  check(power{7}, .2, 3.423627277403, 2.901034119873, 2.155646963665, 2.399498220165, 2.12208722659, 1.895800871692);
  const auto smoothed = [](double K) {
    return log_mean_partition(logarithm{}, at_beta{1. / 3}, at_count{K}, add_one_rank{});
  };
  CHECK(smoothed(4) == near(-1.021651247532, 1e-11));
  CHECK(smoothed(8) == near(-1.1755733298042, 1e-11));
  CHECK(smoothed(32) == near(-1.3265884348205, 1e-11));
}

TEST_CASE("A rank without bias has the log Z of exact calibrated rewards at every K") {
  for (const double K : {4., 8., 4096.})
    CHECK(log_partition(identity{}, at_beta{.2}, at_count{K}) == near(log_partition(identity{}, at_beta{.2}), 1e-9));
  for (const double K : {7., 12.})
    CHECK(log_partition(identity{}, at_beta{.2}, at_count{K}, unbiased_power{7}) == near(1.817779484956, 1e-10));
}

namespace {

/// The mean of e^{rank/β} over a response and K references from a policy with ties, by enumeration.
double mean_power(const std::function<double(Index, Index, Index)>& rank, int K, double beta) {
  const double probability[] = {.1, .2, .3, .25, .15};
  const int reward[] = {1, 2, 2, 3, 3};
  double mean = 0;
  int samples = 1;
  for (int k = 0; k <= K; ++k) samples *= 5;
  for (int sample = 0; sample < samples; ++sample) {
    int digits = sample;
    const int y = digits % 5;
    double weight = probability[y];
    Index below = 0, tied = 0;
    for (int k = 0; k < K; ++k) {
      const int z = (digits /= 5) % 5;
      weight *= probability[z];
      below += reward[z] < reward[y];
      tied += reward[z] == reward[y];
    }
    mean += weight * std::exp(rank(below, tied, K) / beta);
  }
  return mean;
}

}  // namespace

TEST_CASE("With partition_rank, the mean of e^{shaped/β} is the mean Z whatever ties, and with no other rank") {
  CHECK(log_mean_partition(identity{}, at_beta{.1}, at_count{3}) == near(8.650029879649, 1e-11));
  for (const int K : {1, 2, 3, 4})
    for (const double beta : {.1, .5}) {
      const at_count count{static_cast<double>(K)};
      CHECK(std::log(mean_power(partition_rank{identity{}, beta}, K, beta)) ==
            near(log_mean_partition(identity{}, at_beta{beta}, count), 1e-12));
      const partition_rank shaped{normalized_exponential{10}, beta};
      CHECK(std::log(mean_power(shaped, K, beta)) ==
            near(log_mean_partition(shaped.transform, at_beta{beta}, count), 1e-12));
    }
  const double right = log_mean_partition(identity{}, at_beta{.1}, at_count{3});
  CHECK(std::log(mean_power(mid_rank{}, 3, .1)) - right == near(-.706704, 1e-6));
  CHECK(std::log(mean_power(weak_rank{}, 3, .1)) - right == near(.688556, 1e-6));
  CHECK(std::log(mean_power(strict_rank{}, 3, .1)) - right == near(-1.015879, 1e-6));
}

// β·log((e^{Φ(1/4)/β} + e^{Φ(2/4)/β} + e^{Φ(3/4)/β})/3)
TEST_CASE("partition_rank has the values of its formula, and is a rank functor of a calibration") {
  CHECK(partition_rank{identity{}, .1}(1, 2, 4) == near(.64864849576962, 1e-14));
  CHECK(partition_rank{identity{}, .1}(0, 4, 4) == near(.8476208844647822, 1e-14));
  CHECK(partition_rank{normalized_exponential{10}, .2}(1, 2, 4) == near(.0333127474272504, 1e-15));
  CHECK(partition_rank{identity{}, .1}(3, 0, 4) == 0.75);
  CHECK(partition_rank{identity{}, 1e-3}(1, 2, 4) == near(0.75 - 1e-3 * std::log(3), 1e-15));  // no overflow
  const calibration shape{matrix<double>{{1, 2, 2, 3}}, partition_rank{identity{}, .1}};
  CHECK(shape(matrix<double>{{2, 5}})(0, 0) == near(.64864849576962, 1e-14));
  CHECK(error_of([] {
          partition_rank{identity{}, 0}.check();
        }) == "partition_rank: expected a beta finite and above 0, got 0");
  CHECK(error_of([] {
          partition_rank{power{-1}, 1}.check();
        }) == "power: expected an exponent finite and above 0, got -1");
}

// .1·log of the mean of e, e², …, e⁵
TEMPLATE_TEST_CASE("The optimal value of raw rewards is β·log of the mean of e^{r/β}", "", float, double) {
  using S = TestType;
  const matrix<S> reference{{S(.1), S(.2), S(.3), S(.4), S(.5)}, {S(7), S(7), S(7), S(7), S(7)}};
  const auto V = optimal_values(reference, at_beta{.1});
  REQUIRE(V.size() == 2);
  CHECK(V[0] == near(0.3842476483503493, epsilon<S>));
  CHECK(V[1] == near(7, 1e-15));
  const S nan = std::numeric_limits<S>::quiet_NaN();
  CHECK(optimal_values(matrix<S>{{1, nan, 1}, {nan, nan, nan}}, at_beta{1}, unscored::propagate)[0] == near(1, 1e-15));
  CHECK(std::isnan(optimal_values(matrix<S>{{nan, nan}}, at_beta{1}, unscored::propagate)[0]));
  CHECK(optimal_values(matrix<S>{{-1000, 1000}}, at_beta{1e-3})[0] == near(1000, 1e-3));
  CHECK(optimal_values(ragged(std::vector<std::vector<S>>{{1}, {2, 2}}), at_beta{1})[1] == near(2, 1e-15));
  const auto error = [](const matrix<S>& r, double beta) {
    return error_of([&] { optimal_values(r, at_beta{beta}); });
  };
  CHECK(error(reference, 0) == "optimal_values: expected a beta finite and above 0, got 0");
  CHECK(error(matrix<S>{{1}, {std::numeric_limits<S>::infinity()}}, 1) ==
        "optimal_values: expected finite rewards, got inf at row 1");
  CHECK(error(matrix<S>{{1, nan}}, 1) ==
        "optimal_values: expected reference rewards that are numbers, got NaN at row 0, column 1");
  CHECK(error(matrix<S>(2, 0), 1) != "no error");
}

TEST_CASE("Parameters without a log Z are rejected") {
  const std::string beta = "log_partition: expected a beta finite and above 0, got ";
  for (const double wrong : {0., -1., inf, NaN}) {
    CHECK(error_of([&] { log_partition(identity{}, at_beta{wrong}); }) == beta + detail::concat(wrong));
    CHECK(error_of([&] { log_partition(logarithm{}, at_beta{wrong}); }) == beta + detail::concat(wrong));
    CHECK(error_of([&] { log_partition(power{2}, at_beta{wrong}); }) != "no error");
    CHECK(error_of([&] { log_mean_partition(power{2}, at_beta{wrong}, at_count{4}); }) != "no error");
  }
  for (const double wrong : {0., 2.5, 4097., inf, NaN})
    CHECK(error_of([&] { log_partition(identity{}, at_beta{1}, at_count{wrong}); }) ==
          "log_partition: expected a whole count from 1 to 4096, got " + detail::concat(wrong));
  CHECK(error_of([] { log_mean_partition(logarithm{}, at_beta{1}, at_count{4}); }) ==
        "log_mean_partition: expected a transform that is finite at every rank, got -inf at below = 0");
}
