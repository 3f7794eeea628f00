// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
// The results on the held-out prompts: tables, samples, a CSV, and a picture if gnuplot is installed.
#pragma once

#include "align.hpp"
#include "resumable.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <map>
#include <string>
#include <vector>

namespace trainer {

/// One number for each held-out prompt, for each measure of a policy.
struct results {
  array<double> kl, single, best, worst;
};

/// The beginning of the names of the files with a run's results at this KL.
inline std::string measured_prefix(const fs::path& folder, const std::string& goal, std::uint64_t seed, double kl) {
  char budget[32];
  std::snprintf(budget, sizeof budget, "%g", kl);
  return (folder / ("measured." + goal + "." + std::to_string(seed) + ".kl_" + budget + ".")).string();
}

/// The results of each seed's run at this KL. Empty if a run is not that far.
inline std::vector<results> results_at(const fs::path& folder, const std::string& goal,
                                       const std::vector<std::uint64_t>& seeds, double kl) {
  using namespace infalign;
  const npy_table<float> reference(folder / "held_out.reference.npy");
  std::vector<results> all;
  for (const auto seed : seeds) {
    const auto prefix = measured_prefix(folder, goal, seed, kl);
    if (!fs::exists(prefix + "rewards.npy")) return {};
    const npy_table<float> rewards(prefix + "rewards.npy"), divergence(prefix + "kl.npy");
    results r{array<double>(rewards.rows()), win_rates(rewards, reference, plain_sampling{}, unscored::propagate),
              win_rates(rewards, reference, best_of{4}, unscored::propagate),
              win_rates(rewards, reference, worst_of{4}, unscored::propagate)};
    for (Eigen::Index p = 0; p < rewards.rows(); ++p) r.kl[p] = divergence.row(p).cast<double>().mean();
    all.push_back(std::move(r));
  }
  return all;
}

/// Their mean. The prompts are the sample; the number of a prompt is its mean over the runs.
inline results mean_of(const std::vector<results>& all) {
  results mean = all.front();
  for (const auto member : {&results::kl, &results::single, &results::best, &results::worst}) {
    for (std::size_t s = 1; s < all.size(); ++s) mean.*member += all[s].*member;
    mean.*member /= static_cast<double>(all.size());
  }
  return mean;
}

inline std::string with_error(const array<double>& values) {
  const auto e = infalign::mean_over_prompts(values);
  char text[64];
  std::snprintf(text, sizeof text, "%7.4f +- %.4f", e.mean, e.high - e.mean);
  return text;
}

/// Prints the table: each goal at this KL, and the result of each run; then, on the same prompts, the lead of the
/// transformed rewards over the others for the procedures that they are made for.
inline void print_table(const fs::path& folder, const std::vector<std::string>& names,
                        const std::vector<std::uint64_t>& seeds, double kl) {
  std::printf("\nheld-out prompts, mean over %zu runs, with 95 %% intervals over prompts\n%-20s %-18s %-18s %-18s %s\n",
              seeds.size(), "trained on", "KL (nats)", "one sample", "best-of-4", "worst-of-4");
  std::map<std::string, results> last;
  for (const auto& name : names) {
    const auto runs = results_at(folder, name, seeds, kl);
    const auto& r = last[name] = mean_of(runs);
    std::printf("%-20s %-18s %-18s %-18s %-18s", name.c_str(), with_error(r.kl).c_str(), with_error(r.single).c_str(),
                with_error(r.best).c_str(), with_error(r.worst).c_str());
    for (const auto& run : runs) std::printf("  %.3f/%.3f", run.best.mean(), run.worst.mean());
    std::printf("\n");
  }
  using namespace infalign;
  const auto lead = [&](const std::string& name, const std::string& other, array<double> results::*member) {
    if (name != other && last.count(name) > 0 && last.count(other) > 0)
      std::printf("  %-20s of %-20s %s\n", name.c_str(), other.c_str(),
                  with_error(last[name].*member - last[other].*member).c_str());
  };
  const auto compare = [&]<class T>(const std::string& name, array<double> results::*member, const T& procedure) {
    if (last.count(name) == 0) return;
    std::printf("\nused with %s, ahead on the same prompts\n", name.c_str());
    for (const auto* const other : {"raw", "z-score", "calibrated"}) lead(name, other, member);
    for (const auto* const variant : {"-prior", "-K8-prior", "-K8"}) lead(name, name + variant, member);
    const double spent = last[name].kl.mean();
    std::printf(
        "  theory, at the same KL of %.3f, for a policy free to take any shape: calibrated %.4f, optimum %.4f\n", spent,
        aligned_policy(identity{}, at_kl{spent}).win_rate(procedure),
        optimal_transform(procedure, at_kl{spent}).win_rate);
  };
  compare("best-of-4", &results::best, best_of{4});
  compare("worst-of-4", &results::worst, worst_of{4});
}

/// Prints the win rate of policies that were trained for n = 4 with other n, for both sides.
inline void print_by_n(const fs::path& folder, const std::vector<std::string>& names,
                       const std::vector<std::uint64_t>& seeds, double kl) {
  using namespace infalign;
  static constexpr int shown[] = {1, 2, 4, 8, 16, 32};
  const npy_table<float> reference(folder / "held_out.reference.npy");
  const auto print = [&](const char* procedure, const auto& curve_of) {
    std::printf("\nwin rate with %s\n%-20s", procedure, "trained on");
    for (const int n : shown) std::printf("  n = %-4d", n);
    for (const auto& name : names) {
      std::printf("\n%-20s", name.c_str());
      for (const int n : shown) {
        double sum = 0;
        for (const auto seed : seeds)
          sum += curve_of(npy_table<float>(measured_prefix(folder, name, seed, kl) + "rewards.npy"), n);
        std::printf("  %8.4f", sum / static_cast<double>(seeds.size()));
      }
    }
    std::printf("\n");
  };
  print("best-of-n",
        [&](const auto& rewards, int n) { return win_rate(rewards, reference, best_of{n}, unscored::propagate).mean; });
  print("worst-of-n", [&](const auto& rewards, int n) {
    return win_rate(rewards, reference, worst_of{n}, unscored::propagate).mean;
  });
}

/// Writes samples.txt: for the first held-out prompts, what best-of-4 and worst-of-4 show of the reference policy and of
/// the policies trained for them.
inline void write_samples_text(const fs::path& folder, std::uint64_t seed, double kl) {
  using namespace infalign;
  const auto read = [](const fs::path& file) {
    std::ifstream in(file);
    return nlohmann::json::parse(in);
  };
  const npy_table<float> reference(folder / "held_out.reference.npy");
  const auto before = read(folder / "held_out.samples.json");
  std::ofstream out(folder / "samples.txt");
  for (const bool best : {true, false}) {
    const std::string name = best ? "best-of-4" : "worst-of-4", prefix = measured_prefix(folder, name, seed, kl);
    if (!fs::exists(prefix + "rewards.npy")) continue;
    const npy_table<float> rewards(prefix + "rewards.npy");
    const auto now = read(prefix + "samples.json");
    const auto shown = [best](const auto& row, const nlohmann::json& texts) {
      Eigen::Index i = 0;
      const float reward = best ? row.head(4).maxCoeff(&i) : row.head(4).minCoeff(&i);
      char number[32];
      std::snprintf(number, sizeof number, "%+.2f ", static_cast<double>(reward));
      return number + texts.at(static_cast<std::size_t>(i)).template get<std::string>();
    };
    out << "What " << name << " shows, with its reward\n\n";
    for (std::size_t p = 0; p < before.size(); ++p) {
      const auto row = static_cast<Eigen::Index>(p);
      out << before[p].at("prompt").get<std::string>() << "\n  reference  "
          << shown(reference.row(row), before[p].at("responses")) << "\n  aligned    "
          << shown(rewards.row(row), now.at(p).at("responses")) << "\n\n";
    }
  }
}

/// Writes report.csv: KL and win rates with their intervals, for each goal and each KL; and the curves of the theory.
inline void write_csv(const fs::path& folder, const std::vector<std::string>& names,
                      const std::vector<std::uint64_t>& seeds, const std::vector<double>& budgets) {
  using namespace infalign;
  std::ofstream csv(folder / "report.csv");
  csv << "curve,panel,kl,win_rate,low,high\n";
  for (const auto& name : names)
    for (const double budget : budgets) {
      const auto all = results_at(folder, name, seeds, budget);
      if (all.empty()) continue;
      const auto r = mean_of(all);
      for (const auto& [panel, values] :
           {std::pair<const char*, const array<double>&>{"best-of-4", r.best}, {"worst-of-4", r.worst}}) {
        const auto e = mean_over_prompts(values);
        csv << name << ',' << panel << ',' << r.kl.mean() << ',' << e.mean << ',' << e.low << ',' << e.high << '\n';
      }
    }
  // Curve by curve, so that a line can be drawn through the rows of each.
  const auto theory = [&](const char* panel, const auto& procedure) {
    for (double kl = 0.01; kl < 1.2; kl += 0.02)
      csv << "theory: calibrated," << panel << ',' << kl << ','
          << aligned_policy(identity{}, at_kl{kl}).win_rate(procedure) << ",,\n";
    for (double kl = 0.01; kl < 1.2; kl += 0.02)
      csv << "theory: optimum," << panel << ',' << kl << ',' << optimal_transform(procedure, at_kl{kl}).win_rate
          << ",,\n";
  };
  theory("best-of-4", best_of{4});
  theory("worst-of-4", worst_of{4});
}

/// Draws report.csv with gnuplot, if that is installed.
inline void draw(const fs::path& folder, const std::vector<std::string>& finished, double kl) {
  if (std::system("command -v gnuplot >/dev/null 2>&1") != 0) return;
  const auto csv = (folder / "report.csv").string(), picture = (folder / "report.png").string();
  std::ofstream plot(folder / "report.gnuplot");
  plot << "set terminal pngcairo size 1300,600 font 'sans,13'\nset output '" << picture
       << "'\nset datafile separator ','\nset datafile missing NaN\n"
       << "set multiplot layout 1,2\nset grid lc rgb '#cccccc'\nset key bottom right\nset xrange [0:" << 1.2 * kl
       << "]\nset yrange [0.4:1]\n"
       << "set xlabel 'KL to the reference (nats per response)'\nset ylabel 'win rate against the reference, held-out "
          "prompts'\n";
  const std::vector<std::pair<std::string, std::string>> styles{{"raw", "pt 6 lc rgb '#000000' dt 3"},
                                                                {"z-score", "pt 4 lc rgb '#777777' dt 4"},
                                                                {"calibrated", "pt 2 lc rgb '#7090b0' dt 2"},
                                                                {"best-of-4", "pt 7 lc rgb '#e08000'"},
                                                                {"worst-of-4", "pt 5 lc rgb '#0060c0'"}};
  for (const std::string panel : {"best-of-4", "worst-of-4"}) {
    const auto where = [&](const std::string& curve) {
      return "'" + csv + "' using ((strcol(1) eq '" + curve + "' && strcol(2) eq '" + panel + "') ? $3 : NaN)";
    };
    plot << "set title 'used with " << panel << "'\nplot " << where("theory: optimum")
         << ":4 with lines lw 1 lc rgb '#000000' title 'theory: optimum', " << where("theory: calibrated")
         << ":4 with lines lw 1 dt 2 lc rgb '#000000' title 'theory: calibrated'";
    for (const auto& [name, style] : styles)
      if (std::count(finished.begin(), finished.end(), name) > 0)
        plot << ", " << where(name) << ":4:5:6 with yerrorlines lw 2 ps 1.3 " << style << " title 'trained on: " << name
             << "'";
    plot << '\n';
  }
  plot << "unset multiplot\n";
  plot.close();
  if (std::system(("gnuplot '" + (folder / "report.gnuplot").string() + "'").c_str()) == 0)
    std::printf("\nwrote %s and %s\n", csv.c_str(), picture.c_str());
}

/// Writes the whole report of the finished runs with these seeds, at each KL; the tables are for the last KL.
inline void report(const fs::path& folder, const std::vector<std::uint64_t>& seeds,
                   const std::vector<double>& budgets) {
  std::vector<std::string> names;
  for (const auto& aim : goals(infalign::matrix<float>(infalign::matrix<float>::Random(1, 9)), budgets.back()))
    if (!results_at(folder, aim.name, seeds, budgets.back()).empty()) names.push_back(aim.name);
  if (names.empty()) throw std::invalid_argument("no reward has been trained on with all of these seeds yet");
  print_table(folder, names, seeds, budgets.back());
  print_by_n(folder, names, seeds, budgets.back());
  write_samples_text(folder, seeds.front(), budgets.back());
  write_csv(folder, names, seeds, budgets);
  draw(folder, names, budgets.back());
}

}  // namespace trainer
