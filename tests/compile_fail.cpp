// SPDX-License-Identifier: MIT
// One wrong use for each CASE above 0; tests/CMakeLists.txt holds the text that the compiler must show for it.
#include <infalign/infalign.hpp>

using namespace infalign;

struct loss_without_estimate {
  double beta;
  static constexpr auto place = kl_place::token_loss;
};

void use(const matrix<float>& f, const matrix<double>& d, const array<float>& flat) {
  const token_batch<float> batch{.log_probabilities = f, .reference_log_probabilities = f};
#if CASE == 0
  policy_gradient{k1_in_reward{.beta = 1}, leave_one_out{}}(batch, f);
  calibrate(f, f);
  transform(d, identity{});
  policy_gradient{no_kl{}, no_baseline{}}(batch, flat);
#elif CASE == 1
  calibrate(d, f);
#elif CASE == 2
  policy_gradient{no_kl{}, leave_one_out{}}(batch, flat);
#elif CASE == 3
  policy_gradient{no_kl{}, leave_one_out{}, gspo_clip{}, token_mean{}};
#elif CASE == 4
  policy_gradient{k3_loss{.beta = 1}, leave_one_out{}, reinforce{}, token_mean{}};
#elif CASE == 5
  policy_gradient{k1_reward_to_go{.beta = 1}, leave_one_out{}, sequence_clip{}};
#elif CASE == 6
  const token_batch<float> wrong{.log_probabilities = d};
#elif CASE == 7
  const Eigen::ArrayXXf by_columns = f;
  const token_batch<float> wrong{.log_probabilities = by_columns};
#elif CASE == 8
  const token_batch<float> wrong{.log_probabilities = f + f};
#elif CASE == 9
  transform(f, 3);
#elif CASE == 10
  const token_batch<float> wrong{.log_probabilities = matrix<float>(f + f)};
#elif CASE == 11
  using wrong = policy_gradient<loss_without_estimate, leave_one_out>;
#elif CASE == 12
  policy_gradient{no_kl{}, leave_one_out{}}(batch, d);
#endif
  (void)flat;
}
