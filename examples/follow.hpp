// SPDX-License-Identifier: MIT
#pragma once

// What best-of-n by the reward does to a second number of each response: a true reward, a length, a safety score.
#include <infalign/infalign.hpp>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>
#include <vector>

namespace follow {

using namespace infalign;

/// Draws NAME.csv with gnuplot: the value with its interval, and the reward. False if gnuplot fails.
inline bool draw(const std::string& name, const std::string& key) {
  std::ofstream(name + ".gnuplot")
      << "set encoding utf8\nset terminal pngcairo size 900,560 font 'sans,14'\nset output '" << name
      << ".png'\nset datafile separator ','\nset logscale x 2\nset grid lc rgb '#dddddd' lw 1\nset key top left\n"
         "set xlabel 'n of best-of-n by the reward'\nset ylabel '"
      << key << " of the response that is shown' noenhanced\nset y2label 'its reward'\nset y2tics\nset ytics nomirror\n"
      << "plot '" << name
      << ".csv' using 1:3:4 skip 1 with filledcurves lc rgb '#c8dcf0' title '95 % interval', '' using 1:2 skip 1 with "
         "lines lw 3 lc rgb '#0060c0' title '"
      << key << "' noenhanced, '' using 1:5 skip 1 axes x1y2 with lines lw 2 dt 2 lc rgb '#000000' title 'reward'\n";
  return std::system(("gnuplot '" + name + ".gnuplot'").c_str()) == 0;
}

/// The rows of two tables without the responses that have a NaN in either.
template <class Table>
struct scored_pairs {
  std::vector<array<double>> rewards, values;

  scored_pairs(const Table& reward_rows, const Table& value_rows) {
    for (Eigen::Index p = 0; p < reward_rows.rows(); ++p) {
      std::vector<double> r, v;
      for (Eigen::Index m = 0; m < reward_rows.row(p).size(); ++m)
        if (!std::isnan(reward_rows.row(p)[m]) && !std::isnan(value_rows.row(p)[m]))
          r.push_back(reward_rows.row(p)[m]), v.push_back(value_rows.row(p)[m]);
      if (r.empty()) continue;
      rewards.push_back(Eigen::Map<const array<double>>(r.data(), static_cast<Eigen::Index>(r.size())));
      values.push_back(Eigen::Map<const array<double>>(v.data(), static_cast<Eigen::Index>(v.size())));
    }
  }
};

inline void print(const char* what, const mean_estimate& e) {
  std::printf("%-28s %12.6g  [%.6g, %.6g]\n", what, e.mean, e.low, e.high);
}

/// Prints the mean value of what best-of-n shows for every n, its peak, and its mean under policies of a KL of 0.5. Writes
/// NAME.csv, and NAME.png with gnuplot, if a name is given. Returns the exit code of the program.
template <class Table>
int report(const Table& rewards, const Table& values, const std::string& key, const std::string& name) {
  const auto shown = shown_value_curve<best_of>(rewards, values, unscored::propagate),
             by_reward = shown_value_curve<best_of>(rewards, rewards, unscored::propagate);
  std::printf("best-of-n by the reward: %s of the response that is shown (95 %% interval), and its reward\n%5s %12s\n",
              key.c_str(), "n", key.c_str());
  for (std::size_t n = 0; n < shown.size(); ++n)
    std::printf("%5zu %12.6g  [%.6g, %.6g]  %.6g\n", n + 1, shown[n].mean, shown[n].low, shown[n].high,
                by_reward[n].mean);

  const auto peak =
      std::max_element(shown.begin(), shown.end(), [](const auto& a, const auto& b) { return a.mean < b.mean; });
  const int best = static_cast<int>(peak - shown.begin()) + 1, most = static_cast<int>(shown.size());
  if (best == most) {
    std::printf("\n%s is largest at n = %d, the most that the log allows\n", key.c_str(), most);
  } else {
    const auto lost = detail::mean_of_scored(shown_values(rewards, values, best_of{best}, unscored::propagate) -
                                             shown_values(rewards, values, best_of{most}, unscored::propagate));
    std::printf("\n%s is largest at n = %d; n = %d loses %.6g [%.6g, %.6g] of it\n", key.c_str(), best, most, lost.mean,
                lost.low, lost.high);
  }

  const scored_pairs<Table> pairs(rewards, values);
  std::printf("\n%s under policies with a mean KL of 0.5\n", key.c_str());
  print("reference", shown.front());
  const auto policy = [&](const char* what, const std::vector<array<double>>& scores) {
    if (beta_at_mean_kl(scores, 0.5))
      print(what, mean_over_prompts(finite_policies(scores, at_kl{0.5}).means(pairs.values)));
    else
      std::printf("%-28s %12s\n", what, "-");
  };
  policy("raw", pairs.rewards);
  std::vector<array<double>> u = pairs.rewards, best_of_n = u;
  for (std::size_t p = 0; p < u.size(); ++p) {
    const matrix<double> row = pairs.rewards[p].transpose();
    u[p] = calibrate(row, row).row(0);
    best_of_n[p] = transform(u[p], exponential{.t = 10});
  }
  policy("calibrated", u);
  policy("exponential, t = 10", best_of_n);

  if (name.empty()) return 0;
  std::ofstream csv(name + ".csv");
  csv << "n,value,low,high,reward\n";
  for (std::size_t n = 0; n < shown.size(); ++n)
    csv << n + 1 << ',' << shown[n].mean << ',' << shown[n].low << ',' << shown[n].high << ',' << by_reward[n].mean
        << '\n';
  csv.close();
  if (!csv) throw std::runtime_error(name + ".csv cannot be written");
  if (std::system("command -v gnuplot >/dev/null 2>&1") != 0) {
    std::printf("\nwrote %s.csv; with gnuplot installed there would be %s.png too\n", name.c_str(), name.c_str());
    return 0;
  }
  const bool drawn = draw(name, key);
  std::printf(drawn ? "\nwrote %s.csv and %s.png\n" : "\nwrote %s.csv; gnuplot failed to draw %s.png\n", name.c_str(),
              name.c_str());
  return drawn ? 0 : 1;
}

}  // namespace follow
