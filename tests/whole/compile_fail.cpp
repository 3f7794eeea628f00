// SPDX-License-Identifier: MIT
// One wrong use for each case but `right`. tests/CMakeLists.txt has the text that the compiler must print for it.
#include <infalign/infalign.hpp>

using namespace infalign;

struct kl_without_loss {
  double beta;
  static constexpr auto place = kl_place::token_loss;
};

void use(const matrix<float>& f, const matrix<double>& d, const array<float>& flat) {
  const token_batch<float> batch{.log_probabilities = f, .reference_log_probabilities = f};
#if defined(CASE_right)
  policy_gradient{k1_in_reward{.beta = 1}, leave_one_out{}}(batch, f);
  calibrate(f, f);
  transform(d, identity{});
  policy_gradient{no_kl{}, no_baseline{}}(batch, flat);
#elif defined(CASE_unlike_scalars)
  calibrate(d, f);
#elif defined(CASE_column_for_groups)
  policy_gradient{no_kl{}, leave_one_out{}}(batch, flat);
#elif defined(CASE_sequence_surrogate_with_token_mean)
  policy_gradient{no_kl{}, leave_one_out{}, gspo_clip{}, token_mean{}};
#elif defined(CASE_sequence_kl_with_token_mean)
  policy_gradient{k3_loss{.beta = 1}, leave_one_out{}, reinforce{}, token_mean{}};
#elif defined(CASE_to_go_with_sequence_surrogate)
  policy_gradient{k1_reward_to_go{.beta = 1}, leave_one_out{}, sequence_clip{}};
#elif defined(CASE_view_of_another_scalar)
  const token_batch<float> wrong{.log_probabilities = d};
#elif defined(CASE_view_of_columns)
  const Eigen::ArrayXXf by_columns = f;
  const token_batch<float> wrong{.log_probabilities = by_columns};
#elif defined(CASE_view_of_expression)
  const token_batch<float> wrong{.log_probabilities = f + f};
#elif defined(CASE_number_as_transform)
  transform(f, 3);
#elif defined(CASE_view_of_temporary)
  const token_batch<float> wrong{.log_probabilities = matrix<float>(f + f)};
#elif defined(CASE_kl_without_loss)
  using wrong = policy_gradient<kl_without_loss, leave_one_out>;
#elif defined(CASE_step_of_unlike_scalars)
  policy_gradient{no_kl{}, leave_one_out{}}(batch, d);
#elif defined(CASE_reward_kl_in_loss)
  policy_loss{k1_in_reward{.beta = 1}};
#elif defined(CASE_loss_kl_in_advantages)
  policy_advantages{k3_loss{.beta = 1}, leave_one_out{}};
#endif
  (void)flat;
}
