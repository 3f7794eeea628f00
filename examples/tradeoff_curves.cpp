// SPDX-License-Identifier: MIT
// tradeoff_curves NAME: the trade-off between KL and win rate of best-of-N and worst-of-N, for N = 2, 4, 10 and the
// identity, the logarithm, exponentials and the optimum. Prints a table of win rates at three KLs, with the best t and
// the optimum's beta. Writes the curves to NAME.csv and, if gnuplot is installed, NAME.png. All numbers come from
// theory: they hold for every language model and every reward.
#include <infalign/infalign.hpp>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <string>
#include <vector>

namespace {

using namespace infalign;

/// Betas from high to low, for a transform whose values on [0, 1] have this range.
std::vector<double> betas(double range) {
  std::vector<double> result;
  for (double x = 4; x > -11; x -= 0.0625) result.push_back(range * std::exp(x));
  return result;
}

template <procedure Procedure>
void write_curves(std::ostream& csv, const std::string& panel, const Procedure& procedure, double sign) {
  const auto write = [&](const std::string& curve, const std::vector<tradeoff_point>& points) {
    for (const auto& p : points)
      csv << panel << ',' << curve << ',' << p.beta << ',' << p.kl << ',' << p.win_rate << '\n';
  };
  write("identity", tradeoff(identity{}, procedure, procedure, betas(1)));
  write("log", tradeoff(logarithm{}, procedure, procedure, betas(10)));
  for (const int t : {5, 10})
    write("exponential t=" + std::to_string(sign > 0 ? t : -t),
          tradeoff(normalized_exponential{sign * t}, procedure, procedure, betas(1)));
  std::vector<tradeoff_point> optimum;
  for (const double beta : betas(1)) {
    const auto best = optimal_transform(procedure, at_beta{beta});
    optimum.push_back({best.beta, best.kl, best.win_rate});
  }
  write("optimum", optimum);
}

/// Prints win rates at three KLs: of four transforms, of the best exponential with its t, and of the optimum with its
/// beta.
template <procedure Procedure>
void print_table(const std::string& panel, const Procedure& procedure, double sign) {
  for (const double kl : {0.1, 0.5, 1.0}) {
    const auto win_rate = [&](const auto& phi) { return aligned_policy(phi, at_kl{kl}).win_rate(procedure); };
    const auto exponential = best_exponential(procedure, at_kl{kl});
    const auto optimum = optimal_transform(procedure, at_kl{kl});
    std::printf("%-11s %4.2f %9.4f %9.4f %9.4f %9.4f %9.4f (t = %5.1f) %9.4f (beta = %.4f)\n", panel.c_str(), kl,
                win_rate(identity{}), win_rate(logarithm{}), win_rate(normalized_exponential{5 * sign}),
                win_rate(normalized_exponential{10 * sign}), exponential.win_rate, exponential.transform.t,
                optimum.win_rate, optimum.beta);
  }
}

/// The gnuplot script that draws the CSV. Lines differ in dashes and brightness, so that they can be distinguished in a
/// grey print.
std::string script(const std::string& name) {
  std::string s =
      "set encoding utf8\nset terminal pngcairo size 1500,920 font 'sans,14'\nset output '" + name +
      ".png'\nset datafile separator ','\nset multiplot layout 2,3 margins 0.06,0.985,0.08,0.95 spacing 0.045,0.1\n";
  s += "set xrange [0:1.5]\nset xtics 0.5\nset mxtics 5\nset format x '%.1f'\nset yrange [0.5:1]\nset ytics 0.1\n"
       "set format y '%.1f'\nset grid lc rgb '#dddddd' lw 1\nset key bottom right samplen 4 spacing 1.25\n"
       "set title offset 0,-0.4\n";
  for (const std::string kind : {"best", "worst"})
    for (const std::string n : {"2", "4", "10"}) {
      const std::string panel = kind + "-of-" + n, sign = kind == "best" ? "" : "-";
      const auto curve = [&](const std::string& column, const std::string& title, const std::string& style) {
        return "'" + name + ".csv' using ((strcol(1) eq '" + panel + "' && strcol(2) eq '" + column +
               "') ? $4 : NaN):5 with lines " + style + " title '" + title + "'";
      };
      const auto formula = [&](const std::string& t) { return (sign.empty() ? "e^{" : "−e^{−") + t + "u}"; };
      s += "set title '" + panel + "'\nset xlabel '" + (kind == "best" ? "" : "KL to the reference (nats)") +
           "'\nset ylabel '" + (n == "2" ? "win rate against the reference" : "") + "'\nplot " +
           curve("identity", "u (identity)", "lw 3 dt 3 lc rgb '#000000'") + ", " +
           curve("log", "log u", "lw 2.5 dt 4 lc rgb '#777777'") + ", " +
           curve("exponential t=" + sign + "5", formula("5"), "lw 3 dt 2 lc rgb '#0060c0'") + ", " +
           curve("exponential t=" + sign + "10", formula("10"), "lw 4 lc rgb '#f0a030'") + ", " +
           curve("optimum", "optimum", "lw 1.5 lc rgb '#000000'") + "\n";
    }
  return s + "unset multiplot\n";
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: tradeoff_curves NAME   (writes NAME.csv, and NAME.png with gnuplot)\n");
    return 2;
  }
  const std::string name = argv[1];
  std::ofstream csv(name + ".csv");
  csv << "panel,transform,beta,kl,win_rate\n";
  csv.precision(10);
  std::printf("%-11s %4s %9s %9s %9s %9s %9s %11s %9s\n", "procedure", "KL", "identity", "log", "t = +-5", "t = +-10",
              "best t", "", "optimum");
  const auto both = [&](const std::string& panel, const auto& procedure, double sign) {
    print_table(panel, procedure, sign);
    write_curves(csv, panel, procedure, sign);
  };
  for (const int n : {2, 4, 10}) both("best-of-" + std::to_string(n), best_of{n}, 1);
  for (const int n : {2, 4, 10}) both("worst-of-" + std::to_string(n), worst_of{n}, -1);
  csv.close();
  if (!csv) {
    std::fprintf(stderr, "tradeoff_curves: %s.csv cannot be written\n", name.c_str());
    return 1;
  }
  if (std::system("command -v gnuplot >/dev/null 2>&1") != 0) {
    std::printf("wrote %s.csv; with gnuplot installed there would be %s.png too\n", name.c_str(), name.c_str());
    return 0;
  }
  std::ofstream(name + ".gnuplot") << script(name);
  const int status = std::system(("gnuplot '" + name + ".gnuplot'").c_str());
  std::printf(status == 0 ? "wrote %s.csv, %s.gnuplot and %s.png\n"
                          : "wrote %s.csv and %s.gnuplot; gnuplot failed to draw %s.png\n",
              name.c_str(), name.c_str(), name.c_str());
  return status == 0 ? 0 : 1;
}
