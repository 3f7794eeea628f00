// SPDX-License-Identifier: MIT
// Properties of the pipeline for random batches: few distinct rewards (ties), infinities, unscored responses, empty rows.
// RapidCheck makes the batches, and shrinks one that fails.
#include <infalign/infalign.hpp>

#include "arrays.hpp"

#include <rapidcheck.h>

#include <algorithm>
#include <map>
#include <numeric>
#include <vector>

using namespace infalign;
using Eigen::Index;

namespace {

/// A flat batch, and a reference with a different number of rewards for each prompt.
struct batch {
  std::vector<std::vector<double>> reference;
  std::vector<int> prompt;
  std::vector<double> rewards;
};

std::ostream& operator<<(std::ostream& out, const batch& b) {
  rc::show(b.reference, out << "reference ");
  rc::show(b.prompt, out << ", prompts ");
  rc::show(b.rewards, out << ", rewards ");
  return out;
}

rc::Gen<double> reward() {
  return rc::gen::weightedOneOf<double>(
      {{6, rc::gen::map(rc::gen::inRange(-3, 4), [](int i) { return 0.5 * i; })},
       {2, rc::gen::map(rc::gen::arbitrary<int>(), [](int i) { return i * 1e-3; })},
       {1, rc::gen::elementOf(std::vector<double>{infinity<double>, -infinity<double>, 1e300, 5e-324, -0.0})},
       {1, rc::gen::just(NaN)}});
}

rc::Gen<batch> any_batch() {
  return rc::gen::mapcat(rc::gen::inRange(1, 5), [](int P) {
    const auto rows = rc::gen::container<std::vector<std::vector<double>>>(
        static_cast<std::size_t>(P), rc::gen::nonEmpty(rc::gen::container<std::vector<double>>(reward())));
    return rc::gen::mapcat(rc::gen::inRange(0, 24), [=](int B) {
      const auto n = static_cast<std::size_t>(B);
      return rc::gen::build<batch>(
          rc::gen::set(&batch::reference, rows),
          rc::gen::set(&batch::prompt, rc::gen::container<std::vector<int>>(n, rc::gen::inRange(0, P))),
          rc::gen::set(&batch::rewards, rc::gen::container<std::vector<double>>(n, reward())));
    });
  });
}

array<double> as_array(const std::vector<double>& v) {
  return Eigen::Map<const array<double>>(v.data(), std::ssize(v));
}

array<double> ranks(const batch& b) {
  return calibrate(ragged(b.reference), b.prompt, as_array(b.rewards), mid_rank{}, unscored::propagate);
}

/// The batch in another order of its responses.
batch reordered(const batch& b, const std::vector<std::size_t>& order) {
  batch result{b.reference, {}, {}};
  for (const auto i : order) result.prompt.push_back(b.prompt[i]), result.rewards.push_back(b.rewards[i]);
  return result;
}

std::vector<std::size_t> shuffled(std::size_t n) {
  std::vector<std::size_t> order(n);
  std::iota(order.begin(), order.end(), std::size_t{0});
  for (std::size_t i = n; i-- > 1;) std::swap(order[i], order[*rc::gen::inRange<std::size_t>(0, i + 1)]);
  return order;
}

template <class F>
void holds(const char* property, const F& f) {
  CHECK(rc::check(property, f));
}

}  // namespace

TEST_CASE("Properties of calibration") {
  holds("a rank is in [0, 1], and NaN exactly if the reward or all its reference is", [] {
    const auto b = *any_batch();
    const auto u = ranks(b);
    for (Index i = 0; i < u.size(); ++i) {
      const auto& row = b.reference[static_cast<std::size_t>(b.prompt[static_cast<std::size_t>(i)])];
      const bool none = std::all_of(row.begin(), row.end(), [](double z) { return std::isnan(z); });
      const bool missing_rank = std::isnan(b.rewards[static_cast<std::size_t>(i)]) || none;
      RC_ASSERT(std::isnan(u[i]) == missing_rank);
      RC_ASSERT(missing_rank || (u[i] >= 0 && u[i] <= 1));
    }
  });
  holds("ranks are ordered as the rewards of a prompt are", [] {
    const auto b = *any_batch();
    const auto u = ranks(b);
    for (std::size_t i = 0; i < b.rewards.size(); ++i)
      for (std::size_t j = 0; j < b.rewards.size(); ++j)
        if (b.prompt[i] == b.prompt[j] && b.rewards[i] <= b.rewards[j] && !std::isnan(u[static_cast<Index>(i)]))
          RC_ASSERT(u[static_cast<Index>(i)] <= u[static_cast<Index>(j)]);
  });
  holds("the order of the reference rewards does not matter", [] {
    auto b = *any_batch();
    const auto u = ranks(b);
    for (auto& row : b.reference) {
      const auto order = shuffled(row.size());
      std::vector<double> other;
      for (const auto k : order) other.push_back(row[k]);
      row = other;
    }
    RC_ASSERT(same(ranks(b), u));
  });
  holds("the order of the responses, and the other responses, do not matter", [] {
    const auto b = *any_batch();
    const auto order = shuffled(b.rewards.size());
    const auto u = ranks(b), other = ranks(reordered(b, order));
    for (std::size_t i = 0; i < order.size(); ++i) {
      const double moved = other[static_cast<Index>(i)], before = u[static_cast<Index>(order[i])];
      RC_ASSERT(moved == before || (std::isnan(moved) && std::isnan(before)));
      const auto alone = ranks(reordered(b, {order[i]}));
      RC_ASSERT(alone[0] == before || (std::isnan(alone[0]) && std::isnan(before)));
    }
  });
  holds("the mean rank of the reference among itself is one half", [] {
    const auto row = *rc::gen::nonEmpty(
        rc::gen::container<std::vector<double>>(rc::gen::suchThat(reward(), [](double r) { return !std::isnan(r); })));
    const matrix<double> reference = as_array(row).transpose();
    RC_ASSERT(std::abs(calibrate(reference, reference).mean() - 0.5) < 1e-12);
  });
  holds("the mean leave-one-out rank of each prompt with two scored responses is one half", [] {
    const auto b = *any_batch();
    const auto u = calibrate_leave_one_out(b.prompt, as_array(b.rewards), mid_rank{}, unscored::propagate);
    std::map<int, std::vector<double>> of_prompt;
    for (std::size_t i = 0; i < b.rewards.size(); ++i)
      if (!std::isnan(b.rewards[i])) of_prompt[b.prompt[i]].push_back(u[static_cast<Index>(i)]);
    for (const auto& [p, values] : of_prompt) {
      if (values.size() < 2) RC_ASSERT(std::isnan(values[0]));
      if (values.size() < 2) continue;
      RC_ASSERT(std::abs(as_array(values).mean() - 0.5) < 1e-12);
    }
  });
}

TEST_CASE("Properties of transforms and advantages") {
  holds("transforms keep the order of ranks, and their ends", [] {
    const double t = *rc::gen::map(rc::gen::inRange(-600, 601), [](int i) { return i / 10.0; });
    const auto row = *rc::gen::container<std::vector<double>>(
        rc::gen::map(rc::gen::inRange(0, 1025), [](int k) { return k / 1024.0; }));
    array<double> u = as_array(row);
    std::sort(u.begin(), u.end());
    const auto y = transform(u, normalized_exponential{t});
    RC_ASSERT(std::is_sorted(y.begin(), y.end()));
    RC_ASSERT(((y >= 0) && (y <= 1)).all());
    for (Index i = 0; i < u.size(); ++i) {
      if (u[i] == 0) RC_ASSERT(y[i] == 0);
      if (u[i] == 1) RC_ASSERT(y[i] == 1);
    }
  });
  holds("group advantages sum to 0, keep the order, and do not change if a number is added to the rewards", [] {
    const auto n = *rc::gen::inRange<std::size_t>(2, 9);
    const auto row = *rc::gen::container<std::vector<double>>(
        n, rc::gen::map(rc::gen::inRange(-50, 51), [](int i) { return i / 4.0; }));
    const double shift = *rc::gen::inRange(-1000, 1001);
    const matrix<double> rewards = as_array(row).transpose();
    const auto check = [&](const auto& estimator) {
      const auto a = advantage(rewards, estimator);
      RC_ASSERT(std::abs(a.sum()) < 1e-10);
      RC_ASSERT(distance(advantage(matrix<double>(rewards + shift), estimator), a) < 1e-9);
      for (Index i = 0; i < a.size(); ++i)
        for (Index j = 0; j < a.size(); ++j)
          if (rewards(0, i) < rewards(0, j)) RC_ASSERT(a(0, i) < a(0, j));
    };
    for_each_of(check, group_mean{}, leave_one_out{}, group_standardized{}, batch_standardized{});
  });
}

TEST_CASE("Properties of win rates") {
  holds("the win rates of two policies against each other sum to 1, and n = 1 is the mean rank", [] {
    const auto draw = [](std::size_t n) {
      return *rc::gen::container<std::vector<double>>(
          n, rc::gen::map(rc::gen::inRange(-3, 4), [](int i) { return 0.5 * i; }));
    };
    const auto n = *rc::gen::inRange(1, 5);
    const matrix<double> a = as_array(draw(*rc::gen::inRange<std::size_t>(5, 9))).transpose();
    const matrix<double> b = as_array(draw(*rc::gen::inRange<std::size_t>(5, 9))).transpose();
    RC_ASSERT(std::abs(win_rates(a, b, best_of{n})[0] + win_rates(b, a, best_of{n})[0] - 1) < 1e-12);
    RC_ASSERT(std::abs(win_rates(a, b, worst_of{n})[0] - win_rates(-b, -a, best_of{n})[0]) < 1e-12);
    RC_ASSERT(std::abs(win_rates(a, b, plain_sampling{})[0] - calibrate(b, a).mean()) < 1e-12);
  });
}

TEST_CASE("Properties of the step") {
  holds("masked tokens and unscored responses have no gradient, and the order of responses does not matter", [] {
    const auto B = *rc::gen::inRange<std::size_t>(1, 9);
    const auto T = *rc::gen::inRange(0, 70);
    const auto prompt = *rc::gen::container<std::vector<int>>(B, rc::gen::inRange(0, 3));
    const auto rewards = *rc::gen::container<std::vector<double>>(
        B, rc::gen::weightedOneOf<double>(
               {{4, rc::gen::map(rc::gen::inRange(-20, 21), [](int i) { return i / 8.0; })}, {1, rc::gen::just(NaN)}}));
    const auto seed = *rc::gen::inRange(0u, 1000u);
    std::srand(seed);
    const auto rows = static_cast<Index>(B);
    const matrix<double> now = matrix<double>::Random(rows, T) - 1.5,
                         reference = now + 0.3 * matrix<double>::Random(rows, T);
    const matrix<double> mask = (matrix<double>::Random(rows, T) > -0.5).cast<double>();
    const policy_gradient step{k1_in_reward{.beta = 0.1}, batch_mean{}, ppo_clip{}, token_mean{}, unscored::propagate};
    const auto order = shuffled(B);
    matrix<double> now2(rows, T), reference2(rows, T), mask2(rows, T);
    std::vector<int> prompt2;
    array<double> rewards2(rows);
    for (std::size_t k = 0; k < B; ++k) {
      const auto i = static_cast<Index>(order[k]), at = static_cast<Index>(k);
      now2.row(at) = now.row(i), reference2.row(at) = reference.row(i), mask2.row(at) = mask.row(i);
      prompt2.push_back(prompt[order[k]]), rewards2[at] = rewards[order[k]];
    }
    const double tokens = mask.sum();
    const auto out =
        step(token_batch<double>{.log_probabilities = now, .reference_log_probabilities = reference, .mask = mask},
             prompt, as_array(rewards));
    const auto out2 =
        step(token_batch<double>{.log_probabilities = now2, .reference_log_probabilities = reference2, .mask = mask2},
             prompt2, rewards2);
    RC_CLASSIFY(tokens > 0);
    RC_ASSERT(std::abs(out.loss - out2.loss) < 1e-9);
    for (std::size_t k = 0; k < B; ++k) {
      const auto i = static_cast<Index>(order[k]);
      RC_ASSERT(distance(out2.gradient.row(static_cast<Index>(k)), out.gradient.row(i)) < 1e-9);
      if (std::isnan(rewards[order[k]])) RC_ASSERT((out.gradient.row(i) == 0).all());
    }
    RC_ASSERT(((mask == 1) || (out.gradient == 0)).all());
  });
}
