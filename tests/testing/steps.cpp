// SPDX-License-Identifier: MIT
#include <infalign/step/policy_gradient.hpp>
#include <infalign/testing/steps.hpp>

#include "arrays.hpp"

#include <vector>

using namespace infalign;
using checks::token_case;
using checks::training_step;
using Eigen::Index;

namespace {

const policy_gradient step{k3_token_loss{.beta = 0.1}, leave_one_out{}, ppo_clip{}, token_mean{}};
const training_step our_step{[](const token_case& c) { return step(c.batch(), c.prompt, c.rewards).gradient; }, 2};

/// −mask·reward, by one over `weight(case)`.
template <class Weight>
training_step plain(const Weight& weight) {
  return {[weight](const token_case& c) { return matrix<double>(-(c.mask.colwise() * c.rewards) / weight(c)); }};
}

const auto by_tokens = plain([](const token_case& c) { return c.mask.sum(); });

}  // namespace

TEST_CASE("The library's step passes every check of a step") {
  CHECK(checks::no_gradient_at_masked_tokens(our_step));
  CHECK(checks::ignores_masked_tokens(our_step));
  CHECK(checks::ignores_padding(our_step));
  CHECK(checks::ratio_of_one_is_on_policy(our_step));
  CHECK(checks::step_invariant_to_order(our_step));
}

TEST_CASE("Masked tokens with a gradient are found, and the case is as small as can be") {
  const training_step leaky{[](const token_case& c) { return matrix<double>(1 + 0 * c.mask); }};
  const auto r = checks::no_gradient_at_masked_tokens(leaky);
  CHECK(!r);
  CHECK(r.responses == 1);
  CHECK(r.finding == "Masking changes the gradient of response 0, token 0 from 1 to 0.");
  CHECK(r.counterexample.names.front() == "prompt");
  CHECK(r.counterexample.columns.front().size() == 2);  // a masked token and one that is not
  CHECK(checks::no_gradient_at_masked_tokens(by_tokens));
}

TEST_CASE("What masked tokens have may not matter, whichever buffer it is in") {
  const auto uses = [](auto member) {
    return training_step{
        [member](const token_case& c) { return matrix<double>(c.mask.colwise() * (c.*member).rowwise().sum()); }};
  };
  for (const auto member :
       {&token_case::log_probabilities, &token_case::reference_log_probabilities, &token_case::old_log_probabilities}) {
    const auto r = checks::ignores_masked_tokens(uses(member));
    CHECK(!r);
    CHECK(r.responses == 1);
  }
}

TEST_CASE("Padding may not change a mean") {
  const auto by_columns = plain([](const token_case& c) { return static_cast<double>(c.mask.size()); });
  CHECK(checks::ignores_padding(by_tokens));
  CHECK(checks::ignores_masked_tokens(by_columns));
  CHECK(!checks::ignores_padding(by_columns));
}

TEST_CASE("An old policy equal to the present one is no old policy") {
  const training_step halved{[](const token_case& c) { return matrix<double>(c.mask * (c.off_policy ? 0.5 : 1)); }};
  const auto r = checks::ratio_of_one_is_on_policy(halved);
  CHECK(r.finding ==
        "Giving old log-probabilities equal to the present ones changes the gradient of response 0, token 0 from 1 to "
        "0.5.");
}

TEST_CASE("A step may not look at the order of the batch") {
  const training_step first{[](const token_case& c) { return matrix<double>(c.mask * c.rewards[0]); }};
  CHECK(!checks::step_invariant_to_order(first));
}

TEST_CASE("Micro-batches sum to the whole if all are divided by the whole batch's tokens") {
  const auto accumulate = [](bool by_own) {
    return [by_own](const std::vector<token_case>& parts) {
      double tokens = 0;
      Index rows = 0;
      for (const auto& part : parts) tokens += part.mask.sum(), rows += part.size();
      matrix<double> all(rows, parts[0].tokens());
      rows = 0;
      for (const auto& part : parts) {
        const double own = part.mask.sum() * static_cast<double>(parts.size());
        all.middleRows(rows, part.size()) = -(part.mask.colwise() * part.rewards) / (by_own ? own : tokens);
        rows += part.size();
      }
      return all;
    };
  };
  CHECK(checks::parts_sum_to_whole(accumulate(false)));
  const auto r = checks::parts_sum_to_whole(accumulate(true));
  CHECK(!r);
  CHECK(r.prompts == 2);
  CHECK(r.responses == 2);
}

// −A·ρ·mask with the advantage and π_old frozen has the derivative −A·ρ·mask by log π.
TEST_CASE("A gradient is compared with the derivative of the loss, with detached parts frozen") {
  const auto loss = [](const token_case& c, const matrix<double>& now) {
    const array<double> advantage =
        c.rewards - 0.1 * (c.mask * (c.log_probabilities - c.reference_log_probabilities)).rowwise().sum();
    return -((c.mask * (now - c.old_log_probabilities)).exp() * c.mask)
                .rowwise()
                .sum()
                .matrix()
                .dot(advantage.matrix());
  };
  const auto gradient = [](double scale) {
    return training_step{[scale](const token_case& c) {
      const array<double> advantage =
          c.rewards - 0.1 * (c.mask * (c.log_probabilities - c.reference_log_probabilities)).rowwise().sum();
      const matrix<double> ratio = (c.mask * (c.log_probabilities - c.old_log_probabilities)).exp() * c.mask;
      return matrix<double>(-scale * (ratio.colwise() * advantage));
    }};
  };
  CHECK(checks::gradient_is_derivative(gradient(1), loss));
  CHECK(!checks::gradient_is_derivative(gradient(1.001), loss));
  CHECK(!checks::gradient_is_derivative(gradient(-1), loss));
}

TEST_CASE("A gradient of another shape is an error in the report") {
  const training_step narrow{[](const token_case& c) { return matrix<double>(c.size(), c.tokens() - 1); }};
  CHECK(checks::ignores_padding(narrow).finding.find("columns of the gradient, one for each token, got ") !=
        std::string::npos);
  const training_step none{[](const token_case&) { return matrix<double>(0, 0); }};
  CHECK(checks::ignores_padding(none).finding.starts_with("The function throws: training_step: expected 1 rows"));
}

// Every chain of simplifications ends in one response with one token.
TEST_CASE("Simpler token cases end") {
  checks::random_source random(3);
  for (int n = 0; n < 30; ++n) {
    auto c = detail::draw_token_case(our_step, random);
    CHECK((c.mask.rowwise().sum() >= 1).all());
    CHECK((c.log_probabilities < 0).all());
    CHECK((c.off_policy || same(c.log_probabilities, c.old_log_probabilities)));
    int steps = 0;
    for (auto next = c.simpler(); !next.empty(); next = c.simpler()) {
      c = next[static_cast<std::size_t>(random.integer(0, std::ssize(next) - 1))];
      CHECK((c.mask.rowwise().sum() >= 1).all());
      CHECK((c.off_policy || same(c.log_probabilities, c.old_log_probabilities)));
      REQUIRE(++steps < 1000);
    }
    CHECK(c.prompt == std::vector<int>{0, 0});
    CHECK(same(c.mask, matrix<double>{{1}, {1}}));
  }
}
