// SPDX-License-Identifier: MIT
#include <infalign/step/logits.hpp>
#include <infalign/step/policy_gradient.hpp>

#include "arrays.hpp"

#include <cmath>
#include <random>
#include <vector>

using namespace infalign;
using Eigen::Index;

namespace {

struct positions {
  Index B = 3, T = 4, V;
  matrix<double> logits;
  std::vector<int> tokens;

  explicit positions(Index vocabulary, unsigned seed = 1, double spread = 5) : V(vocabulary) {
    std::mt19937 random(seed);
    logits = table_of<double>(B * T, V, [&] { return spread * (static_cast<double>(random()) / 0x1p31 - 1); });
    for (Index i = 0; i < B * T; ++i) tokens.push_back(static_cast<int>(random() % static_cast<unsigned>(V)));
    tokens[2] = -100;
  }
  /// log p in long double, by the formula.
  long double log_p(const matrix<double>& x, Index i) const {
    const int token = tokens[static_cast<std::size_t>(i)];
    if (token < 0) return 0;
    long double sum = 0;
    for (Index v = 0; v < V; ++v) sum += std::exp(static_cast<long double>(x(i, v)) - x(i, token));
    return -std::log(sum);
  }
};

}  // namespace

TEMPLATE_TEST_CASE("Log-probabilities of tokens are those of the softmax, for every size of vocabulary", "", float,
                   double) {
  using S = TestType;
  for (const Index V : {1, 2, 63, 64, 65, 200, 1000}) {
    const positions c(V);
    const matrix<S> logits = c.logits.cast<S>();
    matrix<S> now(c.B, c.T);
    token_log_probabilities_into(now, matrix_view<S>(logits), c.tokens);
    for (Index i = 0; i < c.B * c.T; ++i) {
      const double expected = static_cast<double>(c.log_p(logits.template cast<double>(), i));
      CHECK(static_cast<double>(now.data()[i]) == near(expected, 50 * epsilon<S>));
    }
    CHECK(now.data()[2] == 0);
  }
}

TEMPLATE_TEST_CASE("Logits of any size and tokens that cannot be drawn are exact", "", float, double) {
  using S = TestType;
  const S inf = infinity<S>;
  const matrix<S> logits{{S(1e30), S(-1e30), 0}, {-inf, 2, 2}, {S(-3e4), S(-3e4), -inf}};
  array<S> now(3);
  token_log_probabilities_into(now, matrix_view<S>(logits), std::vector<int>{0, 1, 2});
  CHECK(now[0] == 0);
  CHECK(static_cast<double>(now[1]) == near(-std::log(2), epsilon<S>));
  CHECK(now[2] == -inf);
}

TEMPLATE_TEST_CASE("The gradient by logits is the derivative of the loss, in place or not", "", float, double) {
  using S = TestType;
  const positions c(70, 2);
  std::mt19937 random(3);
  const matrix<double> g = table_of<double>(c.B, c.T, [&] { return static_cast<double>(random()) / 0x1p31 - 1; });
  const matrix<S> logits = c.logits.cast<S>(), slope = g.cast<S>();
  matrix<S> found(c.B * c.T, c.V), in_place = logits;
  logits_gradient_into(found, matrix_view<S>(logits), c.tokens, slope);
  logits_gradient_into(in_place, matrix_view<S>(in_place), c.tokens, slope);
  CHECK(same(found, in_place));
  const auto loss = [&](const matrix<double>& x, Index i) { return g.data()[i] * static_cast<double>(c.log_p(x, i)); };
  double worst = 0;
  for (Index i = 0; i < c.B * c.T; ++i)
    for (Index v = 0; v < c.V; ++v) {
      matrix<double> up = c.logits, down = c.logits;
      up(i, v) += 1e-5, down(i, v) -= 1e-5;
      const double expected = (loss(up, i) - loss(down, i)) / 2e-5;
      worst = std::max(worst, std::abs(static_cast<double>(found(i, v)) - expected));
    }
  CHECK(worst < 1e-9 + 10 * epsilon<S>);
  CHECK((found.row(2) == 0).all());
  CHECK(found.rowwise().sum().abs().maxCoeff() < 20 * epsilon<S>);  // the softmax does not change if all logits do
}

TEST_CASE("A step from logits raises the probability of what it rewards") {
  positions c(9, 4, 1);
  matrix<double> now(c.B, c.T), d(c.B * c.T, c.V);
  token_log_probabilities_into(now, matrix_view<double>(c.logits), c.tokens);
  const matrix<double> rewards{{0, 1, 0}}, before = now;
  const policy_gradient step{no_kl{}, leave_one_out{}};
  const auto out = step(token_batch<double>{.log_probabilities = now}, rewards);
  logits_gradient_into(d, matrix_view<double>(c.logits), c.tokens, out.gradient);
  c.logits -= 0.1 * d;
  token_log_probabilities_into(now, matrix_view<double>(c.logits), c.tokens);
  CHECK(now.row(1).sum() > before.row(1).sum() + 0.01);
  CHECK(now.row(0).sum() < before.row(0).sum());
}

TEST_CASE("No tokens are no work") {
  const matrix<double> logits(0, 5), gradient(0, 5);
  const std::vector<int> tokens;
  matrix<double> now(0, 5), d(0, 5);
  CHECK(error_of([&] { token_log_probabilities_into(now, matrix_view<double>(logits), tokens); }) == "no error");
  CHECK(error_of([&] { logits_gradient_into(d, matrix_view<double>(logits), tokens, gradient); }) == "no error");
}

TEST_CASE("Wrong shapes, tokens and logits are rejected") {
  const positions c(5);
  matrix<double> now(c.B, c.T), d(c.B * c.T, c.V);
  const auto error = [&](const matrix<double>& logits, const std::vector<int>& tokens) {
    return error_of([&] { token_log_probabilities_into(now, matrix_view<double>(logits), tokens); });
  };
  CHECK(error(c.logits, c.tokens) == "no error");
  CHECK(error(c.logits.topRows(3).eval(), c.tokens) ==
        "token_log_probabilities: expected 12 rows of logits, one for each token, got 3");
  CHECK(error(c.logits.topRows(3).eval(), {0, 1, 2}) ==
        "token_log_probabilities: expected 3 numbers in the result, one for each token, got 12");
  auto tokens = c.tokens;
  tokens[4] = 5;
  CHECK(error(c.logits, tokens) ==
        "token_log_probabilities: expected tokens below 5, or below 0 to skip them, got 5 at index 4");
  const std::string refused =
      "token_log_probabilities: expected logits that are numbers below infinity, not all of them -inf, got ";
  for (const double wrong : {NaN, infinity<double>}) {
    matrix<double> logits = c.logits;
    logits(3, 1) = wrong;
    CHECK(error(logits, c.tokens) == refused + detail::concat(wrong) + " at row 3, column 1");
  }
  matrix<double> skipped = c.logits, none = c.logits;
  skipped.row(2) = NaN;
  CHECK(error(skipped, c.tokens) == "no error");
  none.row(1) = -infinity<double>;
  CHECK(error(none, c.tokens) == refused + "-inf at row 1, column 4");
  CHECK(error_of([&] { logits_gradient_into(d, matrix_view<double>(c.logits), c.tokens, now.leftCols(2).eval()); }) ==
        "logits_gradient: expected 12 numbers in the gradient, one for each token, got 6");
  CHECK(error_of([&] { logits_gradient_into(now, matrix_view<double>(c.logits), c.tokens, now); }) ==
        "logits_gradient: expected a result of 12 x 5, got 3 x 4");
}
