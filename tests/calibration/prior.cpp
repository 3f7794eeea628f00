// SPDX-License-Identifier: MIT
#include <infalign/calibration/prior.hpp>

#include "arrays.hpp"

#include <cmath>
#include <functional>
#include <random>
#include <vector>

using namespace infalign;
using Eigen::Index;

namespace {

/// G of prompt p of a reference, at r.
template <class T, class S>
double prior_at(const calibration_prior<S>& prior, const T& reference, Index p, S r) {
  const matrix<S> row = reference.row(p);
  return static_cast<double>(prior.cdf(prior.fit(Eigen::Map<const array<S>>(row.data(), row.size())), r));
}

/// The weight by its definition: all pairs of all rewards.
double weight_by_pairs(const std::vector<std::vector<double>>& rows) {
  std::vector<double> all;
  for (const auto& row : rows) all.insert(all.end(), row.begin(), row.end());
  const auto F = [&](double r) {
    double sum = 0;
    for (const double z : all) sum += z < r ? 1 : z == r ? 0.5 : 0;
    return sum / static_cast<double>(all.size());
  };
  double within = 0, between = 0, pairs_within = 0, pairs_between = 0;
  for (std::size_t p = 0; p < rows.size(); ++p)
    for (std::size_t q = 0; q <= p; ++q)
      for (std::size_t i = 0; i < rows[p].size(); ++i)
        for (std::size_t j = 0; j < (p == q ? i : rows[q].size()); ++j) {
          const double d = std::abs(F(rows[p][i]) - F(rows[q][j]));
          (p == q ? within : between) += d;
          (p == q ? pairs_within : pairs_between) += 1;
        }
  const double c = (within / pairs_within) / (between / pairs_between);
  return c >= 1 ? infinity<double> : c / (1 - c);
}

/// Rewards of 400 prompts, 8 references each, drawn by draw(level, scale, random) with a level and scale for each prompt.
template <class S = double>
matrix<S> drawn(unsigned seed, const std::function<double(double, double, std::mt19937&)>& draw, Index prompts = 400,
                Index K = 8) {
  std::mt19937 random(seed);
  std::normal_distribution<double> normal;
  matrix<S> result(prompts, K);
  for (Index p = 0; p < prompts; ++p) {
    const double level = normal(random), scale = std::exp(normal(random));
    for (Index k = 0; k < K; ++k) result(p, k) = static_cast<S>(draw(level, scale, random));
  }
  return result;
}

double shifted(double level, double, std::mt19937& random) {
  return level + std::normal_distribution<double>()(random);
}
double scaled(double level, double scale, std::mt19937& random) {
  return 10 * level + scale * std::exponential_distribution<double>()(random);
}
double passed(double level, double, std::mt19937& random) {
  return std::uniform_real_distribution<double>()(random) < 0.5 * std::erfc(-level) ? 1 : 0;
}
double same_for_all(double, double, std::mt19937& random) {
  return std::exp(std::normal_distribution<double>()(random));
}

}  // namespace

// The weight W/B/(1 − W/B), by hand: W = 1/3, B = 0.357638888889; for 0 and 1: W = 5/24, B = 0.260416666667.
TEST_CASE("The pooled prior has the CDF of all rewards, and its weight in closed form") {
  const matrix<double> reference{{1, 2, 3, 4}, {2, 2, 5, 6}, {0, 1, 1, 9}};
  const calibration_prior prior(reference, prior_model::pooled);
  CHECK(prior.weight() == Approx(13.714285714286).epsilon(1e-12));
  const double expected[] = {7. / 12, 8.5 / 12, 5.5 / 12, 11. / 12, 2.5 / 12, 1. / 12},
               asked[] = {2.5, 4, 2, 7, 1, 0.5};
  for (int i = 0; i < 6; ++i) CHECK(prior_at(prior, reference, 0, asked[i]) == Approx(expected[i]).epsilon(1e-14));

  const matrix<double> binary{{1, 1, 1, 0}, {0, 0, 0, 1}, {1, 1, 0, 0}, {1, 1, 1, 1}};
  const calibration_prior rates(binary, prior_model::pooled);
  CHECK(rates.weight() == Approx(4).epsilon(1e-12));
  CHECK(prior_at(rates, binary, 0, 0.) == 0.1875);
  CHECK(prior_at(rates, binary, 0, 1.) == 0.6875);
}

TEST_CASE("The weight is that of all pairs, for rows of unlike length, ties and unscored rewards") {
  std::mt19937 random(4);
  for (const int values : {5, 30, 1000000}) {
    std::vector<std::vector<double>> rows, with_gaps;
    for (int p = 0; p < 12; ++p) {
      rows.emplace_back();
      for (unsigned k = 0; k < 1 + random() % 6; ++k)
        rows.back().push_back(p % 3 + static_cast<double>(random() % static_cast<unsigned>(values)) * 4 / values);
      with_gaps.push_back(rows.back());
      with_gaps.back().insert(with_gaps.back().begin() + static_cast<int>(random() % rows.back().size()), NaN);
    }
    const double expected = weight_by_pairs(rows);
    CHECK(calibration_prior(ragged(rows), prior_model::pooled).weight() == Approx(expected).epsilon(1e-9));
    CHECK(calibration_prior(ragged(with_gaps), prior_model::pooled, unscored::propagate).weight() ==
          Approx(expected).epsilon(1e-9));
    // A flat batch, in another order.
    std::vector<int> prompt;
    std::vector<double> flat;
    for (std::size_t k = 0; k < 7; ++k)
      for (std::size_t p = 0; p < with_gaps.size(); ++p)
        if (k < with_gaps[p].size()) prompt.push_back(static_cast<int>(90 - p)), flat.push_back(with_gaps[p][k]);
    calibration_prior<double> batch;
    batch.add(prompt, Eigen::Map<const array<double>>(flat.data(), static_cast<Index>(flat.size())),
              unscored::propagate);
    CHECK(batch.state().total == calibration_prior(ragged(rows)).state().total);
    CHECK(calibration_prior([&] {
            auto state = batch.state();
            state.model = prior_model::pooled;
            return state;
          }())
              .weight() == Approx(expected).epsilon(1e-9));
  }
}

TEST_CASE("It chooses what the prompts share") {
  CHECK(calibration_prior(drawn(1, shifted)).model() == prior_model::location);
  CHECK(calibration_prior(drawn(1, scaled)).model() == prior_model::location_scale);
  CHECK(calibration_prior(drawn(1, passed)).model() == prior_model::pooled);
  CHECK(calibration_prior(drawn(1, passed)).weight() < 5);
  CHECK(calibration_prior(drawn(1, same_for_all)).weight() > 100);
  // Three references are enough for a level, not for a scale.
  CHECK(calibration_prior(drawn(1, shifted, 400, 3)).model() == prior_model::location);
  CHECK(calibration_prior(drawn(1, shifted, 400, 2)).model() == prior_model::pooled);
}

TEST_CASE("The location model is the predictive distribution of normal scores") {
  const auto reference = drawn(2, shifted, 300, 6);
  const calibration_prior prior(reference, prior_model::location, 3.0);
  // Normal scores by sorting and bisection; variances by analysis of variance.
  std::vector<double> all(reference.data(), reference.data() + reference.size());
  std::sort(all.begin(), all.end());
  const auto score = [&](double r) {
    const auto n = static_cast<double>(all.size());
    const auto below = std::lower_bound(all.begin(), all.end(), r), end = std::upper_bound(below, all.end(), r);
    const double u =
        std::clamp(0.5 * static_cast<double>((below - all.begin()) + (end - all.begin())) / n, 0.5 / n, 1 - 0.5 / n);
    double low = -9, high = 9;
    for (int i = 0; i < 80; ++i)
      (0.5 * std::erfc(-(low + high) / 2 / std::sqrt(2.0)) < u ? low : high) = (low + high) / 2;
    return low;
  };
  const matrix<double> x = reference.unaryExpr(score);
  const array<double> mean = x.rowwise().mean();
  const double level = mean.mean(), within = (x.colwise() - mean).square().sum() / (300 * 5);
  const double between = (mean - level).square().sum() / 299 - within / 6, shrink = between / (between + within / 6);
  for (Index p = 0; p < 300; p += 37)
    for (const double r : {-4.0, -1.0, 0.1, reference(p, 3), 2.5, 40.0}) {
      const double m = level + shrink * (mean[p] - level), s = std::sqrt(within + between * (1 - shrink));
      CHECK(prior_at(prior, reference, p, r) ==
            Approx(0.5 * std::erfc(-(score(r) - m) / s / std::sqrt(2.0))).margin(3e-5));
    }
  CHECK(prior.weight() == 3);
}

TEST_CASE("The location-scale model is the CDF of residuals, whatever the scale of each prompt") {
  const auto reference = drawn(3, scaled, 200, 7);
  const calibration_prior prior(reference, prior_model::location_scale, 2.0);
  std::vector<double> residuals;
  const auto residual = [](const std::vector<double>& others, double r) {
    const auto n = static_cast<double>(others.size());
    double mean = 0, variance = 0;
    for (const double z : others) mean += z / n;
    for (const double z : others) variance += (z - mean) * (z - mean) / (n - 1);
    return (r - mean) / std::sqrt(variance * (1 + 1 / n));
  };
  for (Index p = 0; p < 200; ++p)
    for (Index k = 0; k < 7; ++k) {
      std::vector<double> others(reference.row(p).begin(), reference.row(p).end());
      others.erase(others.begin() + k);
      residuals.push_back(residual(others, reference(p, k)));
    }
  for (const Index p : {0, 77, 199}) {
    const std::vector<double> row(reference.row(p).begin(), reference.row(p).end());
    for (const double r : {row[0] - 1, row[2], row[3] + 0.01, row[5] + 50}) {
      double expected = 0;
      for (const double e : residuals) expected += (e < residual(row, r) ? 1.0 : 0.0) / 1400;
      CHECK(prior_at(prior, reference, p, r) == Approx(expected).margin(1e-3));
    }
  }
  matrix<double> changed = reference;
  for (Index p = 0; p < 200; ++p)
    changed.row(p) = changed.row(p) * std::ldexp(1.0, static_cast<int>(p % 9)) + 1000.0 * static_cast<double>(p);
  const calibration_prior same_shape(changed, prior_model::location_scale, 2.0);
  for (const Index p : {0, 77, 199})
    CHECK(prior_at(same_shape, changed, p, changed(p, 2)) ==
          Approx(prior_at(prior, reference, p, reference(p, 2))).margin(1e-3));
}

TEST_CASE("The estimated error of the calibrated reward is its true error") {
  // Rewards of a normal prompt have the CDF N(r − level).
  const auto reference = drawn(5, shifted, 2000, 8);
  std::mt19937 random(5);
  std::normal_distribution<double> normal;
  std::vector<double> levels;
  for (Index p = 0; p < 2000; ++p) {  // the same numbers as `drawn` draws
    levels.push_back(normal(random));
    static_cast<void>(normal(random));
    for (Index k = 0; k < 8; ++k) static_cast<void>(std::normal_distribution<double>()(random));
  }
  for (const auto& prior : {calibration_prior(reference), calibration_prior(reference, prior_model::pooled),
                            calibration_prior(reference, prior_model::pooled, infinity<double>)}) {
    double sum = 0;
    std::mt19937 fresh(6);
    for (Index p = 0; p < 2000; ++p)
      for (int i = 0; i < 20; ++i) {
        const double level = levels[static_cast<std::size_t>(p)], r = level + normal(fresh), a = prior.weight();
        const double own = (reference.row(p) < r).cast<double>().mean(), g = prior_at(prior, reference, p, r);
        const double rank = a == infinity<double> ? g : (8 * own + a * g) / (8 + a);
        const double error = rank - 0.5 * std::erfc(-(r - level) / std::sqrt(2.0));
        sum += error * error / 40000;
      }
    INFO("weight " << prior.weight());
    CHECK(prior.rms_error(8) == Approx(std::sqrt(sum)).epsilon(0.06));
    const double variance = 1.0 / 6;  // the mean of the variance of 1{z < r}
    CHECK(prior.equivalent_count(8) == Approx(variance / std::pow(prior.rms_error(8), 2)).epsilon(0.02));
  }
  const calibration_prior plain(reference, prior_model::pooled, 0.0);
  CHECK(plain.equivalent_count(8) == Approx(8));
  CHECK(plain.rms_error(100) == Approx(std::sqrt(1.0 / 600)).epsilon(0.02));
  const calibration_prior of_pairs(reference.leftCols(2).eval(), prior_model::pooled);
  CHECK(of_pairs.equivalent_count(8) ==
        Approx(calibration_prior(reference, prior_model::pooled).equivalent_count(8)).epsilon(0.2));
  CHECK(std::isnan(calibration_prior(reference.leftCols(1).eval()).rms_error(2)));
}

TEST_CASE("Rewards that are added later count like those that came first") {
  const auto reference = drawn<float>(7, shifted, 300, 5);
  const calibration_prior<float> once(reference);
  calibration_prior<float> twice;
  CHECK(twice.weight() == 0);
  twice.add(reference.topRows(120).eval());
  twice.add(ragged([&] {
    std::vector<std::vector<float>> rows;
    for (Index p = 120; p < 300; ++p) rows.emplace_back(reference.row(p).begin(), reference.row(p).end());
    return rows;
  }()));
  CHECK(twice.weight() == once.weight());
  CHECK(twice.model() == once.model());
  for (const float r : {-2.f, 0.3f, 1.7f}) CHECK(prior_at(twice, reference, 4, r) == prior_at(once, reference, 4, r));

  const calibration_prior restored(twice.state());
  CHECK(restored.weight() == twice.weight());
  CHECK(prior_at(restored, reference, 4, 0.3f) == prior_at(twice, reference, 4, 0.3f));

  calibration_prior half = once;
  half.forget(0.5);
  CHECK(half.state().total == 0.5 * once.state().total);
  CHECK(half.state().pairs == 0.25 * once.state().pairs);  // a pair has the weight of both its rewards

  // Old rewards are forgotten: after twelve batches at another level, less than a tenth of the first are left.
  calibration_prior<float> running(reference, prior_model::pooled);
  const matrix<float> later = reference + 10;
  for (int i = 0; i < 12; ++i) {
    running.forget(0.8);
    running.add(later);
  }
  CHECK(prior_at(running, reference, 0, 5.f) == Approx(std::pow(0.8, 12) * 0.2 / (1 - std::pow(0.8, 13))).margin(1e-3));
  CHECK(running.state().offsets.size() < 1600);
}

TEST_CASE("Of many prompts it keeps a few MiB") {
  std::mt19937 random(8);
  calibration_prior<float> prior;
  const matrix<float> part = table_of<float>(20000, 32, [&] { return static_cast<float>(random() % 100000); });
  for (int i = 0; i < 3; ++i) prior.add(part);
  const auto& state = prior.state();
  CHECK(state.prompts == 60000);
  CHECK(state.total == 60000. * 32);
  CHECK(state.offsets.size() <= 4097);
  CHECK(state.offsets.size() >= 2048);
  CHECK(state.kept.size() * sizeof(float) + state.value.size() * 20 < 4 << 20);
}

TEMPLATE_TEST_CASE("Edges: one prompt, one reference, equal rewards, infinite rewards, no prompts", "", float, double) {
  using S = TestType;
  CHECK(calibration_prior(matrix<S>{{1, 2, 3}}).weight() == 0);             // no other prompt to share with
  CHECK(calibration_prior(matrix<S>{{1}, {2}, {2}}).weight() == 0);         // no pair to learn from
  CHECK(calibration_prior(matrix<S>{{4, 4, 4}, {4, 4, 4}}).weight() == 0);  // nothing to learn
  CHECK(calibration_prior(matrix<S>(0, 3)).weight() == 0);
  CHECK(calibration_prior(matrix<S>{{1, 1}, {2, 2}}).weight() == 0);                  // each prompt has its own reward
  CHECK(calibration_prior(matrix<S>{{1, 3, 2}, {2, 1, 3}}).weight() == infinity<S>);  // more alike than by chance

  const matrix<S> infinite{{-infinity<S>, 1, 2, 5}, {1, infinity<S>, 2, 0}, {0, 1, 3, 4}, {2, 2, -infinity<S>, 7}};
  for (const auto model : {prior_model::pooled, prior_model::location, prior_model::location_scale}) {
    const calibration_prior prior(infinite, model, 1.0);
    for (Index p = 0; p < 4; ++p) {
      double before = 0;
      for (const S r : {-infinity<S>, S{0}, S{1}, S{1.5}, S{2}, S{6}, S{9}, infinity<S>}) {
        const double g = prior_at(prior, infinite, p, r);
        CHECK(g >= before);
        CHECK(g <= 1);
        before = g;
      }
      CHECK(prior_at(prior, infinite, p, S{0}) < prior_at(prior, infinite, p, S{9}));
    }
  }
  const matrix<S> equal{{4, 4, 4, 4}, {1, 2, 3, 4}, {2, 2, 2, 9}, {5, 6, 7, 5}};
  for (const auto model : {prior_model::location, prior_model::location_scale}) {
    const calibration_prior prior(equal, model, 1.0);
    CHECK(prior_at(prior, equal, 0, S{3}) <= prior_at(prior, equal, 0, S{4}));
    CHECK(prior_at(prior, equal, 0, S{4}) <= prior_at(prior, equal, 0, S{5}));
  }
}

TEST_CASE("Errors name what is wrong") {
  const matrix<double> gap{{1, 2}, {3, NaN}};
  CHECK(error_of([&] { calibration_prior p(gap); }) ==
        "calibration_prior: expected reference rewards that are numbers, got NaN at row 1, column 1");
  CHECK(error_of([&] {
          calibration_prior p(matrix<double>{{1, 2}}, prior_model::pooled, -1.0);
        }) == "calibration_prior: expected a weight of at least 0, got -1");
  CHECK(error_of([&] {
          calibration_prior p(matrix<double>{{1, 2}}, prior_model::pooled, NaN);
        }) == "calibration_prior: expected a weight of at least 0, got NaN");
  calibration_prior<double> prior;
  CHECK(error_of([&] { prior.forget(0); }) ==
        "calibration_prior::forget: expected a share above 0 and at most 1, got 0");
  CHECK(error_of([&] {
          prior.add(std::vector<int>{1, 1}, array<double>{{1, NaN}});
        }) == "calibration_prior: expected rewards that are numbers, got NaN at index 1");
  CHECK(error_of([&] { static_cast<void>(prior.rms_error(0)); }) ==
        "calibration_prior: expected a count above 0, got 0");
  CHECK(error_of([&] { prior.forget(1.5); }) ==
        "calibration_prior::forget: expected a share above 0 and at most 1, got 1.5");
  CHECK(error_of([&] { prior.forget(infinity<double>); }) ==
        "calibration_prior::forget: expected a share above 0 and at most 1, got inf");
}

TEST_CASE("A state whose parts do not fit together is rejected") {
  const prior_state<double> saved = calibration_prior(matrix<double>{{1, 2, 2}, {3, 4, 4}}).state();
  CHECK_NOTHROW(calibration_prior(saved));
  auto rounded = saved;  // sums of weights that were multiplied have rounding errors
  rounded.total *= 1 - 1e-12;
  rounded.below[1] *= 1 - 1e-12;
  CHECK_NOTHROW(calibration_prior(rounded));
  const auto rejected = [&saved](const auto& change) {
    auto state = saved;
    change(state);
    return error_of([&] { calibration_prior p(state); }) ==
           "calibration_prior: expected a state that was saved, got one that does not fit together";
  };
  CHECK(rejected([](auto& s) { s.value.push_back(9); }));
  CHECK(rejected([](auto& s) { s.below.push_back(9); }));
  CHECK(rejected([](auto& s) { s.at_most.pop_back(); }));
  CHECK(rejected([](auto& s) { s.offsets.clear(); }));
  CHECK(rejected([](auto& s) { s.offsets.front() = 1; }));
  CHECK(rejected([](auto& s) { s.offsets.back() += 1; }));
  CHECK(rejected([](auto& s) { s.offsets[1] = 7; }));
  CHECK(rejected([](auto& s) { s.kept.pop_back(); }));
  CHECK(rejected([](auto& s) { s.every = 0; }));
  CHECK(rejected([](auto& s) { s.value[1] = NaN; }));
  CHECK(rejected([](auto& s) { std::swap(s.value[0], s.value[1]); }));
  CHECK(rejected([](auto& s) { s.below[1] = s.at_most[1] + 1; }));
  CHECK(rejected([](auto& s) { s.below[1] = 0; }));
  CHECK(rejected([](auto& s) { s.total = 3; }));
}
