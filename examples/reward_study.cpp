// SPDX-License-Identifier: MIT
// reward_study FILE.jsonl: what calibrating and transforming would gain on your own rewards, before any training.
//
// Each line is {"prompt": ..., "rewards": [...]}, the rewards of the reference policy's responses to one prompt, as
// many as there are. For each reward (raw, z-scored per prompt, calibrated, calibrated and exponentially transformed)
// the policy that maximises it under a KL term is known in closed form: each response's probability is proportional to
// exp(reward / beta). The table gives its exact win rate against the reference policy, averaged over the prompts, with
// beta chosen so that the mean KL is as given: "-" where no beta reaches it.
#include <infalign/infalign.hpp>

#include <cmath>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

using infalign::array;
using rows = std::vector<array<double>>;  // one for each prompt

rows read(std::istream& in, const std::string& name) {
  rows result;
  std::string line;
  for (int number = 1; std::getline(in, line); ++number) {
    const auto fail = [&](const std::string& why) {
      throw std::runtime_error(name + ":" + std::to_string(number) + ": " + why);
    };
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    try {
      const auto object = nlohmann::json::parse(line);
      if (!object.is_object() || !object.contains("rewards")) fail("expected an object with the key \"rewards\"");
      const auto& rewards = object["rewards"];
      if (!rewards.is_array() || rewards.empty()) fail("expected \"rewards\" to be a list of at least one number");
      array<double> row(static_cast<Eigen::Index>(rewards.size()));
      for (std::size_t k = 0; k < rewards.size(); ++k) {
        if (!rewards[k].is_number())
          fail("expected a number at rewards[" + std::to_string(k) + "], got " + rewards[k].dump());
        row[static_cast<Eigen::Index>(k)] = rewards[k].get<double>();
      }
      result.push_back(std::move(row));
    } catch (const nlohmann::json::exception& error) {
      fail(std::string("not JSON: ") + error.what());
    }
  }
  if (in.bad()) throw std::runtime_error(name + ": cannot be read");
  if (result.empty()) throw std::runtime_error(name + ": no lines of rewards");
  return result;
}

array<double> z_score(const array<double>& r) {
  if ((r == r[0]).all()) return array<double>::Zero(r.size());
  const array<double> scaled = r / r.abs().maxCoeff();  // so that no square overflows
  const array<double> centred = scaled - scaled.mean();
  return centred / std::sqrt(centred.square().mean());
}

/// The policy that is proportional to exp(scores / beta), and its KL to the uniform one.
struct softmax {
  array<double> policy;
  double kl;

  softmax(const array<double>& scores, double beta) {
    // In halves, so that no difference overflows; and e^-700 is nothing, but finite.
    const array<double> x = ((scores / 2 - scores.maxCoeff() / 2) / (beta / 2)).max(-700.0);
    policy = x.exp();
    const double sum = policy.sum();
    policy /= sum;
    kl = std::log(static_cast<double>(scores.size()) / sum) + (policy * x).sum();
  }
};

double mean_kl(const rows& scores, double beta) {
  double sum = 0;
  for (const auto& s : scores) sum += softmax(s, beta).kl;
  return sum / static_cast<double>(scores.size());
}

/// The beta at which the mean KL is as given, where there is one: bisection on log beta over all that a double can
/// hold.
std::optional<double> beta_at(const rows& scores, double kl) {
  double low = std::log(std::numeric_limits<double>::min()), high = std::log(std::numeric_limits<double>::max());
  if (mean_kl(scores, std::exp(low)) <= kl + 1e-9) return std::nullopt;
  for (int i = 0; i < 50; ++i) {
    const double middle = (low + high) / 2;
    (mean_kl(scores, std::exp(middle)) > kl ? low : high) = middle;
  }
  return std::exp(high);
}

template <infalign::procedure Procedure>
void report(const char* name, const Procedure& procedure, double t, const rows& rewards) {
  rows z, calibrated, exponential;
  for (const auto& r : rewards) {
    z.push_back(z_score(r));
    calibrated.push_back(infalign::calibrate(r.transpose(), r.transpose()).row(0));
    exponential.push_back(infalign::transform(calibrated.back(), infalign::exponential{.t = t}));
  }
  for (const double kl : {0.25, 0.5, 1.0}) {
    std::printf("%-10s %4.2f", name, kl);
    for (const rows* scores : std::vector<const rows*>{&rewards, &z, &calibrated, &exponential}) {
      if (const auto beta = beta_at(*scores, kl)) {
        double sum = 0;
        for (std::size_t p = 0; p < rewards.size(); ++p) {
          const auto reference =
              array<double>::Constant(rewards[p].size(), 1.0 / static_cast<double>(rewards[p].size()));
          sum += infalign::exact_win_rate(rewards[p], softmax((*scores)[p], *beta).policy, reference, procedure);
        }
        std::printf(" %6.4f", sum / static_cast<double>(rewards.size()));
      } else {
        std::printf(" %6s", "-");
      }
    }
    std::printf("\n");
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: reward_study FILE.jsonl   (- for standard input)\n");
    return 2;
  }
  try {
    const std::string name = argv[1];
    std::ifstream file;
    if (name != "-") {
      file.open(name);
      if (!file) throw std::runtime_error(name + ": cannot be opened");
    }
    const rows rewards = read(name == "-" ? std::cin : file, name);
    std::printf("procedure kl raw zscore calibrated exponential\n");
    report("plain", infalign::plain_sampling{}, 10, rewards);
    report("best-of-4", infalign::best_of{4}, 10, rewards);
    report("worst-of-4", infalign::worst_of{4}, -10, rewards);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "reward_study: %s\n", error.what());
    return 1;
  }
}
