// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
// The results on the held-out prompts: a table, a CSV, and a picture if gnuplot is installed.
#pragma once

#include "align.hpp"
#include "resumable.hpp"

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
    const npy_table<float> rewards(prefix + "rewards.npy"), now(prefix + "now.npy"), before(prefix + "before.npy");
    results r{array<double>(rewards.rows()), win_rates(rewards, reference, plain_sampling{}),
              win_rates(rewards, reference, best_of{4}), win_rates(rewards, reference, worst_of{4})};
    for (Eigen::Index p = 0; p < rewards.rows(); ++p)
      r.kl[p] = (now.row(p).cast<double>() - before.row(p).cast<double>()).mean();
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
  std::printf("\nheld-out prompts, mean over %zu runs, with 95 %% intervals over prompts\n%-12s %-18s %-18s %-18s %s\n",
              seeds.size(), "trained on", "KL (nats)", "one sample", "best-of-4", "worst-of-4");
  std::map<std::string, results> last;
  for (const auto& name : names) {
    const auto runs = results_at(folder, name, seeds, kl);
    const auto& r = last[name] = mean_of(runs);
    std::printf("%-12s %-18s %-18s %-18s %-18s", name.c_str(), with_error(r.kl).c_str(), with_error(r.single).c_str(),
                with_error(r.best).c_str(), with_error(r.worst).c_str());
    for (const auto& run : runs) std::printf("  %.3f/%.3f", run.best.mean(), run.worst.mean());
    std::printf("\n");
  }
  using namespace infalign;
  const auto compare = [&]<class T>(const std::string& name, array<double> results::*member, const T& procedure) {
    if (last.count(name) == 0) return;
    const auto& r = last[name];
    const double spent = r.kl.mean();
    std::printf("\nused with %s, ahead on the same prompts\n", name.c_str());
    for (const std::string other : {"raw", "z-score", "calibrated"})
      if (last.count(other) > 0)
        std::printf("  of %-12s %s\n", other.c_str(), with_error(r.*member - last[other].*member).c_str());
    std::printf(
        "  theory, at the same KL of %.3f, for a policy free to take any shape: calibrated %.4f, optimum %.4f\n", spent,
        aligned_policy(identity{}, at_kl{spent}).win_rate(procedure),
        optimal_transform(procedure, at_kl{spent}).win_rate);
  };
  compare("best-of-4", &results::best, best_of{4});
  compare("worst-of-4", &results::worst, worst_of{4});
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
inline void draw(const fs::path& folder, const std::vector<std::string>& names, double kl) {
  if (std::system("command -v gnuplot >/dev/null 2>&1") != 0) return;
  const auto csv = (folder / "report.csv").string(), picture = (folder / "report.png").string();
  std::ofstream plot(folder / "report.gnuplot");
  plot << "set terminal pngcairo size 1300,600 font 'sans,13'\nset output '" << picture
       << "'\nset datafile separator ','\nset datafile missing NaN\n"
       << "set multiplot layout 1,2\nset grid lc rgb '#cccccc'\nset key bottom right\nset xrange [0:" << 1.2 * kl
       << "]\nset yrange [0.4:1]\n"
       << "set xlabel 'KL to the reference (nats per response)'\nset ylabel 'win rate against the reference, held-out "
          "prompts'\n";
  const std::vector<std::string> styles{"pt 6 lc rgb '#000000' dt 3", "pt 4 lc rgb '#777777' dt 4",
                                        "pt 2 lc rgb '#7090b0' dt 2", "pt 7 lc rgb '#e08000'", "pt 5 lc rgb '#0060c0'"};
  for (const std::string panel : {"best-of-4", "worst-of-4"}) {
    const auto where = [&](const std::string& curve) {
      return "'" + csv + "' using ((strcol(1) eq '" + curve + "' && strcol(2) eq '" + panel + "') ? $3 : NaN)";
    };
    plot << "set title 'used with " << panel << "'\nplot " << where("theory: optimum")
         << ":4 with lines lw 1 lc rgb '#000000' title 'theory: optimum', " << where("theory: calibrated")
         << ":4 with lines lw 1 dt 2 lc rgb '#000000' title 'theory: calibrated'";
    for (std::size_t i = 0; i < names.size(); ++i)
      plot << ", " << where(names[i]) << ":4:5:6 with yerrorlines lw 2 ps 1.3 " << styles[i]
           << " title 'trained on: " << names[i] << "'";
    plot << '\n';
  }
  plot << "unset multiplot\n";
  plot.close();
  if (std::system(("gnuplot '" + (folder / "report.gnuplot").string() + "'").c_str()) == 0)
    std::printf("\nwrote %s and %s\n", csv.c_str(), picture.c_str());
}

/// Writes the whole report of the finished runs with these seeds, at each KL; the table is for the last KL.
inline void report(const fs::path& folder, const std::vector<std::uint64_t>& seeds,
                   const std::vector<double>& budgets) {
  std::vector<std::string> names;
  for (const auto& aim : goals(infalign::npy_table<float>(folder / "held_out.reference.npy"), budgets.back()))
    if (!results_at(folder, aim.name, seeds, budgets.back()).empty()) names.push_back(aim.name);
  print_table(folder, names, seeds, budgets.back());
  write_csv(folder, names, seeds, budgets);
  draw(folder, names, budgets.back());
}

}  // namespace trainer
