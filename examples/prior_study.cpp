// SPDX-License-Identifier: MIT
// prior_study [PROMPTS]: how many references does a prior save, and does it ever harm?
//
// For families of prompts (300, with 200 responses each) and K references of each prompt, the program trains in closed
// form on plain calibration and on calibration with a prior, each with the transform that is best for its quality. It
// prints the exact win rates at KL 0.5, how many references plain calibration needs to be as good, and the least gain
// over KL 0.25, 0.5 and 1, where plain calibration reaches it. The references are drawn anew: they are not among the 200 responses.
#include <infalign/infalign.hpp>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <random>
#include <string>
#include <vector>

namespace {

using namespace infalign;
using generator = std::mt19937_64;

double normal(generator& random) {
  return std::normal_distribution<double>()(random);
}
double uniform(generator& random) {
  return std::uniform_real_distribution<double>()(random);
}
double gamma(double shape, generator& random) {
  return std::gamma_distribution<double>(shape)(random);
}
double student(double nu, generator& random) {
  return std::student_t_distribution<double>(nu)(random);
}

/// A family of prompts: prompt(random) draws a prompt, and returns a function that draws its rewards.
struct family {
  const char* name;
  std::function<std::function<double(generator&)>(generator&)> prompt;
};

const std::vector<family> families{
    {"level + noise", [](generator& g) { return [m = normal(g)](generator& r) { return m + normal(r); }; }},
    {"one distribution", [](generator&) { return [](generator& r) { return std::pow(normal(r), 3); }; }},
    {"gamma noise",
     [](generator& g) {
       return [shape = std::exp(0.7 * normal(g)), scale = std::exp(0.7 * normal(g))](generator& r) {
         return scale * gamma(shape, r);
       };
     }},
    {"own scale",
     [](generator& g) {
       return [m = 10 * normal(g), s = std::exp(2 * normal(g))](generator& r) { return m + s * normal(r); };
     }},
    {"heavy tails", [](generator& g) { return [m = student(1, g)](generator& r) { return m + student(1.5, r); }; }},
    {"bimodal",
     [](generator& g) {
       return [m = normal(g), w = uniform(g)](generator& r) { return m + (uniform(r) < w ? 4 : 0) + 0.7 * normal(r); };
     }},
    {"pass or fail",
     [](generator& g) {
       const double a = gamma(0.7, g), b = gamma(0.7, g);
       return [rate = a / (a + b)](generator& r) { return uniform(r) < rate ? 1.0 : 0.0; };
     }},
    {"nothing shared",
     [](generator& g) {
       return [power = std::exp(normal(g)), m = 10 * normal(g), s = std::exp(2 * normal(g)),
               sign = uniform(g) < 0.5 ? -1 : 1](generator& r) { return m + s * sign * std::exp(power * normal(r)); };
     }},
};

constexpr Eigen::Index responses = 200;
const std::vector<double> kls{0.25, 0.5, 1};
const std::vector<int> counts{2, 4, 8, 16, 32};

/// The best rate for a number of references; above 8, it is interpolated between powers of 2. One reference or two cannot
/// reach every KL: then the rate is 0.
class best_rates {
 public:
  template <class Procedure>
  best_rates(const Procedure& procedure, double kl)
      : exact_([procedure, kl](double K) {
          try {
            return best_exponential(procedure, at_kl{kl}, at_count{K}).transform.t;
          } catch (const std::invalid_argument&) {
            return 0.0;
          }
        }) {
    for (double K = 8; K <= 1024; K *= 2) rate_.push_back(exact_(K));
  }
  double operator()(double K) const {
    if (K < 8) return exact_(std::max(K, 1.0));
    const double x = std::min(std::log2(K) - 3, 6.999);
    const auto k = static_cast<std::size_t>(x);
    return rate_[k] + (rate_[k + 1] - rate_[k]) * (x - static_cast<double>(k));
  }

 private:
  std::function<double(double)> exact_;
  std::vector<double> rate_;
};

struct table {
  std::vector<std::function<double(generator&)>> prompts;
  matrix<double> rewards;  // of the 200 responses
  matrix<double> pool;     // of 256 other ones, to draw references from
};

template <class Procedure>
double win_rate_at(const table& data, const matrix<double>& u, double t, double kl, const Procedure& procedure) {
  std::vector<array<double>> scores, rewards;
  for (Eigen::Index p = 0; p < u.rows(); ++p) {
    scores.push_back(transform(u.row(p), normalized_exponential{t}).row(0));
    rewards.push_back(data.rewards.row(p));
  }
  const auto beta = beta_at_mean_kl(scores, kl);
  if (!beta) return std::nan("");  // so few references, or ties, do not reach this KL
  return finite_policies(scores, at_beta{*beta}).win_rates(rewards, procedure).mean();
}

/// The number of references at which a curve over 2, 4, 8, … reaches a win rate.
double count_for(const std::vector<double>& curve, double win_rate) {
  for (std::size_t k = 0; k < curve.size(); ++k)
    if (curve[k] >= win_rate) {
      if (k == 0 || std::isnan(curve[k - 1])) return std::exp2(static_cast<double>(k + 1));
      return std::exp2(static_cast<double>(k) + (win_rate - curve[k - 1]) / (curve[k] - curve[k - 1]));
    }
  return std::exp2(static_cast<double>(curve.size()));
}

const char* const models[] = {"pooled", "location", "location-scale"};

}  // namespace

int main(int argc, char** argv) {
  const int prompts = argc > 1 ? std::atoi(argv[1]) : 300;
  if (argc > 2 || prompts < 2) {
    std::fprintf(stderr, "usage: prior_study [PROMPTS]\n");
    return 2;
  }
  std::vector<best_rates> best_rate, worst_rate;
  for (const double kl : kls) best_rate.emplace_back(best_of{4}, kl), worst_rate.emplace_back(worst_of{4}, kl);
  std::printf("%-17s %3s  %-15s %7s %6s | %-29s | %-29s | %s\n", "family", "K", "prior", "weight", "K_eq",
              "best-of-4: plain prior  K'", "worst-of-4: plain prior  K'", "least gain");
  double least = 1;
  std::vector<std::vector<double>> saved(counts.size());
  std::vector<double> shared;  // by the families that share something
  for (const auto& f : families) {
    generator random(7);
    table data;
    data.rewards.resize(prompts, responses), data.pool.resize(prompts, 256);
    for (Eigen::Index p = 0; p < prompts; ++p) {
      const auto draw = f.prompt(random);
      for (double& r : data.rewards.row(p)) r = draw(random);
      for (double& r : data.pool.row(p)) r = draw(random);
    }
    // Plain calibration for 2, 4, … 256 references.
    std::vector<std::vector<double>> plain(2 * kls.size());
    for (int K = 2; K <= 256; K *= 2) {
      const auto u = calibrate(data.pool.leftCols(K), data.rewards);
      for (std::size_t i = 0; i < kls.size(); ++i) {
        plain[2 * i].push_back(win_rate_at(data, u, best_rate[i](K), kls[i], best_of{4}));
        plain[2 * i + 1].push_back(win_rate_at(data, u, worst_rate[i](K), kls[i], worst_of{4}));
      }
    }
    for (std::size_t k = 0; k < counts.size(); ++k) {
      const matrix<double> reference = data.pool.leftCols(counts[k]);
      const calibration_prior prior(reference);
      const auto u = calibrate(reference, prior, data.rewards);
      double equivalent = prior.equivalent_count(counts[k]);
      if (!(equivalent >= 1)) equivalent = counts[k];
      double gain = 1, shown[4] = {};
      for (std::size_t i = 0; i < kls.size(); ++i) {
        const double best = win_rate_at(data, u, best_rate[i](equivalent), kls[i], best_of{4}),
                     worst = win_rate_at(data, u, worst_rate[i](equivalent), kls[i], worst_of{4});
        for (const auto& [with, curve] : {std::pair{best, plain[2 * i]}, std::pair{worst, plain[2 * i + 1]}}) {
          if (std::isnan(with) || std::isnan(curve[k])) continue;
          gain = std::min(gain, with - curve[k]);
          saved[k].push_back(count_for(curve, with) / counts[k]);
          if (&f != &families.back()) shared.push_back(saved[k].back());
        }
        if (kls[i] == 0.5)
          shown[0] = best, shown[1] = count_for(plain[2 * i], best), shown[2] = worst,
          shown[3] = count_for(plain[2 * i + 1], worst);
      }
      least = std::min(least, gain);
      std::printf("%-17s %3d  %-15s %7.2f %6.1f |            %.4f %.4f %5.0f |             %.4f %.4f %5.0f | %+.4f\n",
                  f.name, counts[k], models[static_cast<int>(prior.model())], prior.weight(), equivalent, plain[2][k],
                  shown[0], shown[1], plain[3][k], shown[2], shown[3], gain);
    }
  }
  std::vector<double> all;
  std::printf("least gain: %+.4f\nmedian factor of references saved:", least);
  const auto median = [](std::vector<double>& x) {
    std::nth_element(x.begin(), x.begin() + static_cast<std::ptrdiff_t>(x.size() / 2), x.end());
    return x[x.size() / 2];
  };
  for (std::size_t k = 0; k < counts.size(); ++k) {
    all.insert(all.end(), saved[k].begin(), saved[k].end());
    std::printf(" K = %d: %.1f;", counts[k], median(saved[k]));
  }
  std::printf(" all: %.1f; without the last family: %.1f\n", median(all), median(shared));
}
