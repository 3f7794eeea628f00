// SPDX-License-Identifier: MIT
// Uses that the compiler must refuse, if WRONG is defined: programs/compile_fail.sh looks for the text of each, and for its line.
#include <infalign/infalign.hpp>
#include <infalign/testing/pipeline.hpp>

using namespace infalign;

void right(const matrix<float>& f, const matrix<double>& d, const array<float>& flat) {
  const token_batch<float> batch{.log_probabilities = f, .reference_log_probabilities = f};
  policy_gradient{k1_in_reward{.beta = 1}, leave_one_out{}}(batch, f);
  calibrate(f, f);
  transform(d, identity{});
  policy_gradient{no_kl{}, no_baseline{}}(batch, flat);
}

#ifdef WRONG
struct kl_without_loss {
  double beta;
  static constexpr auto place = kl_place::token_loss;
};

void wrong(const matrix<float>& f, const matrix<double>& d, const array<float>& flat) {
  const token_batch<float> batch{.log_probabilities = f, .reference_log_probabilities = f};
  // error: reference and rewards must have the same scalar type
  matrix<float> of_another_scalar = f;
  calibrate_into(of_another_scalar, d, f);
  // error: this estimator compares the responses to a prompt
  policy_gradient{no_kl{}, leave_one_out{}}(batch, flat);
  // error: a sequence-level surrogate has one term a response
  policy_gradient{no_kl{}, leave_one_out{}, gspo_clip{}, token_mean{}};
  // error: a KL loss on the whole sequence takes sequence_mean_of_token_sums
  policy_gradient{k3_loss{.beta = 1}, leave_one_out{}, reinforce{}, token_mean{}};
  // error: k1_reward_to_go differs by token
  policy_gradient{k1_reward_to_go{.beta = 1}, leave_one_out{}, sequence_clip{}};
  // error: regression has the KL term in it
  policy_gradient{k1_in_reward{.beta = 1}, no_baseline{}, regression{.beta = 1}};
  // error: regression takes no_baseline
  policy_gradient{no_kl{}, group_mean{}, regression{.beta = 1}};
  // error: the buffer has another scalar type than the view
  const token_batch<float> view_of_another_scalar{.log_probabilities = d};
  // error: rows must be contiguous
  const Eigen::ArrayXXf by_columns = f;
  const token_batch<float> view_of_columns{.log_probabilities = by_columns};
  // error: an expression has no buffer to view
  const token_batch<float> view_of_expression{.log_probabilities = f + f};
  // error: reward_transform
  transform(f, 3);
  // error: deleted
  const token_batch<float> view_of_temporary{.log_probabilities = matrix<float>(f + f)};
  // error: kl_term
  using refused = policy_gradient<kl_without_loss, leave_one_out>;
  // error: rewards and log-probabilities must have the same scalar type
  policy_gradient{no_kl{}, leave_one_out{}}(batch, d);
  // error: a KL in the reward is part of the advantages
  policy_loss{k1_in_reward{.beta = 1}};
  // error: a KL loss is part of policy_loss
  policy_advantages{k3_loss{.beta = 1}, leave_one_out{}};
  // error: a std::vector or a std::span of rewards has no rows
  const auto of_one_vector = calibrate(f, std::vector<float>{1, 2});
  // error: the function returns an Eigen expression, whose operands may be gone
  checks::pipeline{[](const checks::response_batch& b) { return b["reward"] + b["reward"]; }};
}
#endif
