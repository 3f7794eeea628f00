// SPDX-License-Identifier: MIT
#include <infalign/calibration/calibrate.hpp>
#include <infalign/step.hpp>
#include <infalign/theory/log_partition.hpp>

#include "arrays.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

// The numbers of other trainers, setting by setting: TRL (July 2026), OpenRLHF (August 2026), verl (January 2026).
//
// The expected numbers were computed independently of this library, in double precision, from the formulas below. The
// derivatives are by complex steps; what a trainer detaches is constant. Notation: ρ = π/π_old of a token, δ
// = log π − log π_ref, r the reward, m the mask, B responses, s a sample standard deviation; Σ is over the tokens of a
// response where m = 1 unless it says otherwise; clip(x, a, b) = min(max(x, a), b).
//
// The 1e-8 that OpenRLHF and verl add to the length of a response, against a division by zero, is left out: it vanishes
// in their float32.

using namespace infalign;

namespace {

const matrix<double> mask{{1, 1, 1, 1, 1}, {1, 1, 1, 0, 0}, {1, 1, 0, 1, 1},
                          {1, 1, 1, 1, 0}, {1, 1, 0, 0, 0}, {1, 1, 1, 1, 1}};

// log-probabilities of the policy that is trained, of the one that sampled, of the reference, of the sampling engine.
// The values at masked tokens would change the loss. ρ is outside of [0.8, 1.28] at both ends for
// both signs of the advantage, and above 3 for a negative one.
const matrix<double> now{{-0.92, -1.31, -2.05, -0.44, -1.73}, {-2.41, -0.65, -1.87, -9.10, -9.20},
                         {-1.58, -0.37, -9.30, -1.12, -2.66}, {-0.81, -1.49, -0.56, -2.23, -9.40},
                         {-1.27, -0.73, -9.50, -9.60, -9.70}, {-0.29, -1.94, -1.06, -0.88, -3.15}};
const matrix<double> old{{-1.22, -1.41, -1.70, -0.49, -2.13},   {-2.11, -0.90, -1.42, -10.10, -11.20},
                         {-1.18, -0.32, -12.30, -1.27, -2.41},  {-0.83, -1.71, -0.48, -2.83, -8.40},
                         {-1.17, -0.85, -10.50, -7.60, -10.70}, {-1.59, -1.99, -0.76, -1.16, -2.65}};
const matrix<double> reference{{-1.20, -1.15, -1.60, -0.95, -2.05}, {-1.90, -1.05, -2.20, -3.00, -3.10},
                               {-1.75, -0.80, -3.20, -0.90, -2.10}, {-1.45, -1.20, -0.98, -1.80, -3.30},
                               {-0.85, -1.10, -3.40, -3.50, -3.60}, {-0.64, -1.50, -1.71, -1.25, -2.40}};
const matrix<double> engine{{-1.30, -1.21, -2.45, -0.53, -2.07},   {-3.06, -0.78, -1.72, -10.10, -11.20},
                            {-0.87, -1.07, -13.30, -1.29, -2.52},  {-0.93, -1.76, -0.26, -3.64, -8.40},
                            {-1.10, -1.60, -10.50, -7.60, -11.70}, {-1.80, -1.84, -1.48, -1.11, -2.98}};

const matrix<double> rewards{{1, -0.5, 0.4}, {12, 14.5, 5}};
const array<double> flat_rewards{{1, -0.5, 0.4, 12, 14.5, 5}};
const std::vector<int> prompt{0, 0, 0, 1, 1, 1};
const std::vector<int> uid{7, 3, 7, 7, 3, 7};  // groups of four and of two, mixed
const matrix<double> one_missing{{1, NaN, 0.4}, {12, 14.5, 5}};

// The first step after sampling; a later one, with the old policy; a later one with the sampling engine too.
const token_batch<double> on_policy{.log_probabilities = now, .reference_log_probabilities = reference, .mask = mask};
const token_batch<double> off_policy{
    .log_probabilities = now, .reference_log_probabilities = reference, .mask = mask, .old_log_probabilities = old};
const token_batch<double> corrected{.log_probabilities = now,
                                    .reference_log_probabilities = reference,
                                    .mask = mask,
                                    .old_log_probabilities = old,
                                    .sampler_log_probabilities = engine,
                                    .sampler_weight_cap = 2};

// r − β·Σ (log π_old − log π_ref): the KL penalty at the time of sampling.
array<double> penalised(double beta) {
  return flat_rewards - beta * ((old - reference) * mask).rowwise().sum();
}

// A KL loss alone, by token, without ratios: a step with rewards of zero.
template <class KL, class Aggregation>
step_result<double> kl_alone(const KL& kl, const Aggregation& mean) {
  return policy_gradient{kl, no_baseline{}, reinforce{}, mean}(on_policy, matrix<double>(matrix<double>::Zero(2, 3)));
}

step_result<double> operator+(step_result<double> a, const step_result<double>& b) {
  a.loss += b.loss;
  a.gradient += b.gradient;
  return a;
}

double sample_deviation(const array<double>& x) {
  return std::sqrt((x - x.mean()).square().sum() / static_cast<double>(x.size() - 1));
}

// OpenRLHF's (A − μ)/sqrt(max(σ², 1e-8)), mean and variance over all tokens.
array<double> whitened(const array<double>& a) {
  const array<double> tokens = mask.rowwise().sum();
  const array<double> centred = a - (a * tokens).sum() / tokens.sum();
  return centred / std::sqrt(std::max((centred.square() * tokens).sum() / tokens.sum(), 1e-8));
}

array<double> flat(const matrix<double>& x) {
  return x.reshaped<Eigen::RowMajor>();
}

struct expected_step {
  const char* setting;
  step_result<double> step;
  double loss;
  std::array<double, 6> slopes;  // of each response: Σ_t direction[t] · d loss/d log π(y_t)
};

void check(const std::vector<expected_step>& table) {
  const array<double> direction{{1, -2, 3, -5, 8}};
  for (const auto& row : table) {
    INFO(row.setting);
    CHECK(row.step.loss == near(row.loss, 1e-10));
    for (std::size_t i = 0; i < row.slopes.size(); ++i) {
      INFO("response " << i);
      const array<double> gradient = row.step.gradient.row(static_cast<Eigen::Index>(i)).transpose();
      CHECK((gradient * direction).sum() == near(row.slopes[i], 1e-10));
    }
  }
}

}  // namespace

TEST_CASE("Advantages are those of other trainers") {
  // TRL and OpenRLHF, M responses to each prompt in a row, and verl, one id for each response:
  //   RLOO:      A = r − (sum of the group − r)/(M − 1);  verl: A = r·M/(M − 1) − mean·M/(M − 1)
  //   GRPO:      A = (r − mean)/(s + ε), s of the group (n − 1); ε = 1e-4, 1e-9, 1e-6
  //   Dr. GRPO:  A = r − mean
  // TRL, NaN for a response without a score: means, s and M are those of the others in its group, and A = 0 for it, and
  // for all of a group with fewer than two scores.
  const matrix<double> two_missing{{1, NaN, NaN}, {12, 14.5, 5}};
  const struct {
    const char* setting;
    array<double> advantages;
    std::array<double, 6> expected;
  } table[]{
      {"TRL RLOO; OpenRLHF rloo; verl rloo",
       flat(advantage(rewards, leave_one_out{})),
       {1.050000000000, -1.200000000000, 0.150000000000, 2.250000000000, 6.000000000000, -8.250000000000}},
      {"TRL GRPO",
       flat(advantage(rewards, group_standardized{})),
       {0.927049859192, -1.059485553362, 0.132435694170, 0.304597664099, 0.812260437596, -1.116858101695}},
      {"TRL scale_rewards=none; OpenRLHF dr_grpo; verl norm_adv_by_std_in_grpo=False",
       flat(advantage(rewards, group_mean{})),
       {0.700000000000, -0.800000000000, 0.100000000000, 1.500000000000, 4.000000000000, -5.500000000000}},
      {"OpenRLHF group_norm",
       flat(advantage(rewards, group_standardized{1e-9})),
       {0.927172648717, -1.059625884249, 0.132453235531, 0.304603849478, 0.812276931942, -1.116880781420}},
      {"verl grpo",
       flat(advantage(rewards, group_standardized{1e-6})),
       {0.927171421877, -1.059624482145, 0.132453060268, 0.304603787684, 0.812276767158, -1.116880554843}},
      {"verl grpo, ragged",
       advantage(uid, flat_rewards, group_standardized{1e-6}),
       {-0.674262801503, -0.707106714520, -0.786639935086, 1.385984647533, 0.707106714520, 0.074918089056}},
      {"verl rloo, ragged",
       advantage(uid, flat_rewards, leave_one_out{}),
       {-4.800000000000, -15.000000000000, -5.600000000000, 9.866666666667, 15.000000000000, 0.533333333333}},
      {"TRL RLOO, one unscored",
       flat(advantage(one_missing, leave_one_out{}, unscored::propagate)),
       {0.600000000000, 0, -0.600000000000, 2.250000000000, 6.000000000000, -8.250000000000}},
      {"TRL RLOO, two unscored",
       flat(advantage(two_missing, leave_one_out{}, unscored::propagate)),
       {0, 0, 0, 2.25, 6, -8.25}},
      {"TRL GRPO, one unscored",
       flat(advantage(one_missing, group_standardized{}, unscored::propagate)),
       {0.706940153794, 0, -0.706940153794, 0.304597664099, 0.812260437596, -1.116858101695}},
  };
  for (const auto& row : table) {
    INFO(row.setting);
    for (std::size_t i = 0; i < row.expected.size(); ++i) {
      INFO("response " << i);
      CHECK(row.advantages[static_cast<Eigen::Index>(i)] == near(row.expected[i], 1e-10));
    }
  }
}

TEST_CASE("A step has the loss and the gradient of TRL's RLOOTrainer") {
  // With ρ of the whole sequence, exp(Σ log π − Σ log π_old), and the KL as it was when the responses were sampled:
  //   A = RLOO of r − β·Σ (log π_old − log π_ref)
  //   loss = −1/B · Σ_i min(ρ·A, clip(ρ, 1 − ε, 1 + ε_high)·A)
  //   normalize_advantages: A ← (A − mean)/(s + 1e-4), over the batch
  const array<double> a = advantage(prompt, penalised(0.05), leave_one_out{});
  const array<double> normalized = (a - a.mean()) / (sample_deviation(a) + 1e-4);
  check({
      {"beta=0.05, num_iterations=1",
       policy_gradient{k1_in_reward{0.05}, leave_one_out{}, sequence_clip{}}(on_policy, rewards),
       0,
       {-0.855000000000, 0.401000000000, -0.059000000000, 1.118125000000, 1.002583333333, 6.876458333333}},
      {"beta=0.05, later iterations",
       policy_gradient{no_kl{}, leave_one_out{}, sequence_clip{}}(off_policy, prompt, penalised(0.05)),
       1.612466257839,
       {0, 0, -0.028751332217, 0, 1.016248059834, 15.727866585574}},
      {"normalize_advantages=True",
       policy_gradient{no_kl{}, no_baseline{}, sequence_clip{}}(off_policy, normalized),
       0.341890131948,
       {0, 0, -0.006096125558, 0, 0.215474389978, 3.334768933032}},
  });
}

TEST_CASE("A step has the loss and the gradient of TRL's GRPOTrainer") {
  // With k3 = e^{−δ} + δ − 1, unweighted off-policy too, and A by scale_rewards: "group" (GRPO, ε = 1e-4), "none" (r −
  // mean), "batch" ((r − mean of the group)/(s of the batch + 1e-4)):
  //   ℓ = −min(min(ρ, delta)·A, clip(ρ, 1 − ε, 1 + ε_high)·A)·w + β·k3, where delta > 1 + ε_high
  //   cispo: ℓ = −stopgrad(min(ρ, ε_high))·A·log π·w + β·k3
  //   importance_sampling_level="sequence": ρ = exp(Σ (log π − log π_old)/Σ m), one for all tokens
  //   w = 1, or from vLLM's log-probabilities q = π_old/π_vLLM by token or by sequence: min(q, C) (truncate), or q, and 0
  //   above C (mask). IcePop: by token, 0 outside [α, C].
  //   loss_type: grpo         mean over responses of Σ ℓ / Σ m
  //              bnpo         Σ ℓ / Σ m, both over all responses of a device
  //              dapo, cispo  Σ ℓ / Σ m, both over all responses of all devices
  //              dr_grpo      Σ ℓ / (B·max_completion_length), over all responses
  const auto grpo = group_standardized{};  // ε = 1e-4
  const auto clip = ppo_clip{.low = 0.2, .high = 0.28};
  const auto gspo = gspo_clip{.low = 0.1, .high = 0.15};
  const auto by_response = sequence_mean_of_token_means{};
  const auto by_token = token_mean{};
  const auto weighted = [](sampler_mode mode, double cap, double floor = 0) {
    auto batch = corrected;
    batch.sampler_weights = mode, batch.sampler_weight_cap = cap, batch.sampler_weight_floor = floor;
    return batch;
  };
  check({
      {"grpo",
       policy_gradient{no_kl{}, grpo, ppo_clip{}, by_response}(off_policy, rewards),
       0.079395553706,
       {0.165405257142, -0.151156264348, 0.004474691721, -0.048095341395, 0.091389877915, -0.187963294130}},
      {"grpo, epsilon_high=0.28",
       policy_gradient{no_kl{}, grpo, clip, by_response}(off_policy, rewards),
       0.072851176222,
       {0.165405257142, -0.151156264348, 0.004474691721, -0.016466002943, 0.091389877915, -0.187963294130}},
      {"bnpo; dapo",
       policy_gradient{no_kl{}, grpo, clip, by_token}(off_policy, rewards),
       0.134040814380,
       {0.215745987577, -0.118296206881, 0.004669243535, -0.017181916115, 0.047681675434, -0.245169514082}},
      {"dr_grpo, scale_rewards=none, max_completion_length=8",
       policy_gradient{no_kl{}, group_mean{}, clip, sequence_mean_of_token_sums{.length = 8}}(off_policy, rewards),
       0.528398307847,
       {0.078059231963, -0.042800847223, 0.001689382817, -0.040543653688, 0.112513023760, -0.578519171406}},
      {"dr_grpo, scale_rewards=group, max_completion_length=8",
       policy_gradient{no_kl{}, grpo, clip, sequence_mean_of_token_sums{.length = 8}}(off_policy, rewards),
       0.064227890224,
       {0.103378285714, -0.056683599130, 0.002237345861, -0.008233001472, 0.022847469479, -0.117477058831}},
      {"grpo, scale_rewards=batch",
       policy_gradient{no_kl{}, batch_standardized{}, clip, by_response}(off_policy, rewards),
       0.067258526914,
       {0.019471766004, -0.017794352249, 0.000526767720, -0.012641946982, 0.070165540192, -0.144310796444}},
      {"grpo, delta=3",
       policy_gradient{no_kl{}, grpo, ppo_clip{.low = 0.2, .high = 0.28, .dual = 3}, by_response}(off_policy, rewards),
       0.047934196034,
       {0.165405257142, -0.151156264348, 0.004474691721, -0.016466002943, 0.091389877915, -0.324566084488}},
      {"grpo, importance_sampling_level=sequence, epsilon=0.1, epsilon_high=0.15",
       policy_gradient{no_kl{}, grpo, gspo}(off_policy, rewards),
       -0.006435378952,
       {-0.170758090664, 0, -0.009618521386, 0, 0.068368649226, 0.219755438884}},
      {"cispo, epsilon_high=2.5",
       policy_gradient{no_kl{}, grpo, cispo{.low = 1, .high = 2.5 - 1}, by_token}(off_policy, rewards),
       -0.014607938361,
       {-0.319704161319, 0.003945516930, 0.004669243535, 0.103473112214, 0.047681675434, 0.041591246276}},
      {"grpo, vllm_importance_sampling_mode=token_truncate, clip_max=2",
       policy_gradient{no_kl{}, grpo, clip, by_response}(corrected, rewards),
       0.082285302173,
       {0.094324780469, -0.134063579988, 0.012608605786, -0.009265132600, 0.248167399258, -0.133127404323}},
      {"grpo, vllm_importance_sampling_mode=token_mask, clip_max=2",
       policy_gradient{no_kl{}, grpo, clip, by_response}(weighted(sampler_mode::token_mask, 2), rewards),
       0.167720435348,
       {0.224980979339, -0.134063579988, -0.008387515739, -0.009265132600, -0.057106296093, -0.133127404323}},
      {"dapo, IcePop with [0.7, 1.4]",
       policy_gradient{no_kl{}, grpo, clip, by_token}(weighted(sampler_mode::token_mask, 1.4, 0.7), rewards),
       0.209509770289,
       {0.293453451312, -0.104919323469, -0.008752190336, -0.009667964452, -0.029794589266, -0.173644440422}},
      {"dapo, vllm_importance_sampling_mode=sequence_truncate, clip_max=2",
       policy_gradient{no_kl{}, grpo, clip, by_token}(weighted(sampler_mode::sequence_truncate, 2), rewards),
       0.309576492452,
       {0.397065689697, -0.236592413762, 0.008256469498, -0.034363832229, 0.094117797374, -0.490339028165}},
      {"dapo, vllm_importance_sampling_mode=sequence_mask, clip_max=3",
       policy_gradient{no_kl{}, grpo, clip, by_token}(weighted(sampler_mode::sequence_mask, 3), rewards),
       0.367190108811,
       {0.397065689697, 0, 0.008256469498, -0.036012188192, 0.094117797374, -0.707650172900}},
      {"grpo, importance_sampling_level=sequence, vllm_importance_sampling_mode=sequence_truncate, clip_max=2",
       policy_gradient{no_kl{}, grpo, gspo}(corrected, rewards),
       0.022406616737,
       {-0.314268551654, 0, -0.017008114451, 0, 0.134951354290, 0.439510877768}},
      {"grpo, beta=0.04, num_iterations=1",
       policy_gradient{k3_token_loss{0.04}, grpo, clip, by_response}(on_policy, rewards),
       0.003789212133,
       {-0.155735527143, 0.116650789700, -0.019899046142, 0.046175890863, 0.063886726819, 0.175946030999}},
      {"dapo, beta=0.04, later iterations",
       policy_gradient{no_kl{}, grpo, clip, by_token}(off_policy, rewards) + kl_alone(k3_token_loss{0.04}, by_token),
       0.137932301518,
       {0.214145269388, -0.119133463060, -0.004578831207, -0.008728507923, 0.045698209531, -0.258469930539}},
      {"grpo, beta=0.04, importance_sampling_level=sequence",
       policy_gradient{no_kl{}, grpo, gspo}(off_policy, rewards) + kl_alone(k3_token_loss{0.04}, by_response),
       -0.002646166820,
       {-0.171985307942, -0.001069827340, -0.018481259681, 0.008101182851, 0.064567006245, 0.209558452934}},
  });
}

TEST_CASE("A step has the loss and the gradient of OpenRLHF") {
  // With A by advantage.estimator, from r alone, and the KL as it was when the responses were sampled:
  //   A_t = A − β·Σ over this token and later ones of (log π_old − log π_ref)
  //   reinforce_baseline: A_t ← (A_t − μ)/sqrt(max(σ², 1e-8)), over all tokens; no_std_norm: A_t ← A_t − μ
  //   ℓ = −min(ρ·A_t, clip(ρ, 1 − ε_low, 1 + ε_high)·A_t), for A_t < 0 at most −dual_clip·A_t, times w
  //   w = 1, or from vLLM's log-probabilities clip(π_old/π_vLLM, low, high)
  //   loss = Σ ℓ / Σ m, both over all responses;  kl.use_loss: ℓ + β·k, k = ½δ² (k2) or e^{−δ} − 1 + δ (k3)
  //   policy_loss_type gspo: ρ = exp(Σ (log π − log π_old)/Σ m), loss = mean over responses of Σ ℓ / Σ m
  const auto group_norm = group_standardized{1e-9};
  const auto clip = ppo_clip{.low = 0.2, .high = 0.28};
  const auto by_token = token_mean{};
  const array<double> centred = flat(advantage(rewards, group_mean{}));
  const array<double> tokens = mask.rowwise().sum();
  const array<double> centred_by_token = centred - (centred * tokens).sum() / tokens.sum();
  check({
      {"rloo",
       policy_gradient{no_kl{}, leave_one_out{}, clip, by_token}(off_policy, rewards),
       1.654116441956,
       {0.244359334840, -0.133985260872, 0.005288502731, -0.126919263719, 0.352214683076, -1.811016536577}},
      {"group_norm",
       policy_gradient{no_kl{}, group_norm, clip, by_token}(off_policy, rewards),
       0.134031630220,
       {0.215774563545, -0.118311875440, 0.004669861985, -0.017182265023, 0.047682643692, -0.245174492671}},
      {"dr_grpo",
       policy_gradient{no_kl{}, group_mean{}, clip, by_token}(off_policy, rewards),
       1.102744294638,
       {0.162906223227, -0.089323507248, 0.003525668487, -0.084612842479, 0.234809788717, -1.207344357718}},
      {"dr_grpo, dual_clip 3",
       policy_gradient{no_kl{}, group_mean{}, ppo_clip{.low = 0.2, .high = 0.28, .dual = 3}, by_token}(off_policy,
                                                                                                       rewards),
       0.942695091511,
       {0.162906223227, -0.089323507248, 0.003525668487, -0.084612842479, 0.234809788717, -2.084784865192}},
      {"reinforce_baseline",
       policy_gradient{no_kl{}, no_baseline{}, clip, by_token}(off_policy, whitened(centred)),
       0.178181703732,
       {0.098821071102, -0.010798398632, 0.007618704215, -0.039637073362, 0.092255687034, -0.379819760627}},
      {"reinforce_baseline, no_std_norm",
       policy_gradient{no_kl{}, no_baseline{}, clip, by_token}(off_policy, centred_by_token),
       0.512662639890,
       {0.284327010725, -0.031069045999, 0.021920460594, -0.114043396385, 0.265437152463, -1.092813667658}},
      {"group_norm, kl.init_coef 0.3, first step",
       policy_gradient{k1_reward_to_go{0.3}, group_norm, clip, by_token}(on_policy, rewards),
       0.042332004884,
       {-0.206646227982, 0.088880511674, -0.012300281351, 0.079643980367, 0.025012040519, 0.206669735091}},
      {"rloo, kl.init_coef 0.3, first step",
       policy_gradient{k1_reward_to_go{0.3}, no_baseline{}, clip, by_token}(on_policy,
                                                                            advantage(rewards, leave_one_out{})),
       0.792130434783,
       {-0.233347826087, 0.101086956522, -0.013826086957, 0.333391304348, 0.250565217391, 1.757347826087}},
      {"group_norm, kl.use_loss, k2, first step",
       policy_gradient{k2_token_loss{0.3}, group_norm, clip, by_token}(on_policy, rewards),
       0.061376135319,
       {-0.211211445373, 0.087967468196, -0.064604629177, 0.100122241236, 0.020185953563, 0.181887126396}},
      {"group_norm, kl.use_loss, k3, first step",
       policy_gradient{k3_token_loss{0.3}, group_norm, clip, by_token}(on_policy, rewards),
       0.061996419289,
       {-0.213564657875, 0.085861959893, -0.080878233219, 0.103131498327, 0.020440394071, 0.143047046448}},
      {"group_norm, policy_loss_type gspo",
       policy_gradient{no_kl{}, group_norm, gspo_clip{.low = 0.1, .high = 0.15}}(off_policy, rewards),
       -0.006438994243,
       {-0.170780707900, 0, -0.009619795378, 0, 0.068370037569, 0.219759901396}},
      {"rloo, is_correction_type tis, is_correction_threshold 0 2",
       policy_gradient{no_kl{}, leave_one_out{}, clip, by_token}(corrected, rewards),
       1.899385408885,
       {0.139349504439, -0.118834266086, 0.014901729613, -0.071415255537, 0.956431979927, -1.282675598004}},
  });
}

TEST_CASE("A step has the loss and the gradient of verl") {
  // With A by algorithm.adv_estimator, of r, or of r − β·Σ (log π_old − log π_ref) with use_kl_in_reward:
  //   ℓ = max(−ρ·A, −clip(ρ, 1 − clip_ratio_low, 1 + clip_ratio_high)·A), for A < 0 at most −clip_ratio_c·A, times w
  //   cispo: ℓ = −stopgrad(clip(ρ, 1 − clip_ratio_low, 1 + clip_ratio_high))·A·log π
  //   gspo: ρ = exp(stopgrad(Σ (log π − log π_old)/Σ m) + log π − stopgrad(log π)), no clip_ratio_c
  //   w = 1, or from the rollout's log-probabilities, by token, min(π_old/π_rollout, rollout_is_threshold)
  //   loss_agg_mode: token-mean               Σ ℓ / Σ m, both over all responses
  //                  seq-mean-token-sum       mean over responses of Σ ℓ
  //                  seq-mean-token-mean      mean over responses of Σ ℓ / Σ m; always for gspo
  //                  seq-mean-token-sum-norm  Σ ℓ / loss_scale_factor, over all responses; by default T
  //   use_kl_loss: ℓ + β·k, k = e^{−δ} − 1 + δ (low_var_kl) or ½δ² (mse), unweighted off-policy too
  const auto grpo = group_standardized{1e-6};
  const auto rloo = leave_one_out{};
  const auto clip = ppo_clip{.low = 0.2, .high = 0.28, .dual = 3};
  const auto by_token = token_mean{};
  const auto sums = sequence_mean_of_token_sums{};
  const auto means = sequence_mean_of_token_means{};
  check({
      {"grpo, token-mean",
       policy_gradient{no_kl{}, grpo, clip, by_token}(off_policy, rewards),
       0.101530659663,
       {0.215774278031, -0.118311718889, 0.004669855806, -0.017182261537, 0.047682634019, -0.423355577630}},
      {"grpo, seq-mean-token-sum",
       policy_gradient{no_kl{}, grpo, clip, sums}(off_policy, rewards),
       0.389200862041,
       {0.827134732452, -0.453528255740, 0.017901113923, -0.065865335893, 0.182783430406, -1.622863047581}},
      {"grpo, seq-mean-token-mean",
       policy_gradient{no_kl{}, grpo, clip, means}(off_policy, rewards),
       0.047933225203,
       {0.165426946490, -0.151176085247, 0.004475278481, -0.016466333973, 0.091391715203, -0.324572609516}},
      {"rloo, token-mean",
       policy_gradient{no_kl{}, rloo, clip, by_token}(off_policy, rewards),
       1.414042637267,
       {0.244359334840, -0.133985260872, 0.005288502731, -0.126919263719, 0.352214683076, -3.127177297788}},
      {"rloo, seq-mean-token-sum",
       policy_gradient{no_kl{}, rloo, clip, sums}(off_policy, rewards),
       5.420496776190,
       {0.936710783553, -0.513610166675, 0.020272593801, -0.486523844254, 1.350156285123, -11.987512974854}},
      {"rloo, seq-mean-token-mean",
       policy_gradient{no_kl{}, rloo, clip, means}(off_policy, rewards),
       0.463052542859,
       {0.187342156711, -0.171203388892, 0.005068148450, -0.121630961064, 0.675078142561, -2.397502594971}},
      {"grpo, token-mean, ragged groups",
       policy_gradient{no_kl{}, grpo, clip, by_token}(off_policy, uid, flat_rewards),
       0.037675594285,
       {0.170552109977, -0.078951564674, -0.263751137908, -0.078181400440, 0.041508894559, -0.016195850300}},
      {"rloo, token-mean, ragged groups",
       policy_gradient{no_kl{}, rloo, clip, by_token}(off_policy, uid, flat_rewards),
       0.637256695723,
       {1.214141023445, -1.674815760897, -1.877614276122, -0.556564474973, 0.880536707689, -0.115296411525}},
      {"grpo, norm_adv_by_std_in_grpo=False, seq-mean-token-sum-norm, loss_scale_factor=5",
       policy_gradient{no_kl{}, group_mean{}, clip, sequence_mean_of_token_sums{.length = 5.0 / 6}}(off_policy,
                                                                                                    rewards),
       4.336397420952,
       {0.749368626843, -0.410888133340, 0.016218075041, -0.389219075404, 1.080125028098, -9.590010379883}},
      {"rloo, use_kl_in_reward, kl_coef=0.3, first step",
       policy_gradient{k1_in_reward{0.3}, rloo, clip, by_token}(on_policy, rewards),
       0.796630434783,
       {-0.196956521739, 0.105913043478, -0.027130434783, 0.282717391304, 0.264913043478, 1.795760869565}},
      {"grpo, use_kl_in_reward, kl_coef=0.3",
       policy_gradient{no_kl{}, grpo, clip, by_token}(off_policy, prompt, penalised(0.3)),
       0.100476443680,
       {0.218366500511, -0.117457546425, 0.004007425035, -0.017609604332, 0.047353534279, -0.424102163513}},
      {"grpo, use_kl_loss, low_var_kl, kl_loss_coef=0.3, first step",
       policy_gradient{k3_token_loss{0.3}, grpo, clip, by_token}(on_policy, rewards),
       0.061996509411,
       {-0.213564391171, 0.085861837971, -0.080878217979, 0.103131490267, 0.020440386907, 0.143046997192}},
      {"grpo, use_kl_loss, mse, kl_loss_coef=0.3, first step",
       policy_gradient{k2_token_loss{0.3}, grpo, clip, by_token}(on_policy, rewards),
       0.061376225441,
       {-0.211211178669, 0.087967346273, -0.064604613936, 0.100122233176, 0.020185946398, 0.181887077140}},
      {"grpo, use_kl_loss, low_var_kl, kl_loss_coef=0.3, later steps",
       policy_gradient{no_kl{}, grpo, clip, by_token}(off_policy, rewards) + kl_alone(k3_token_loss{0.3}, by_token),
       0.130716813198,
       {0.203768891616, -0.124591140234, -0.064690704758, 0.046218299902, 0.032806639745, -0.523108701056}},
      {"grpo, loss_mode=gspo, clip_ratio_low=0.1, clip_ratio_high=0.15",
       policy_gradient{no_kl{}, grpo, gspo_clip{.low = 0.1, .high = 0.15}}(off_policy, rewards),
       -0.006438958121,
       {-0.170780481922, 0, -0.009619782649, 0, 0.068370023699, 0.219759856814}},
      {"grpo, loss_mode=cispo, token-mean",
       policy_gradient{no_kl{}, grpo, cispo{.low = 0.2, .high = 0.28}, by_token}(off_policy, rewards),
       -0.072640962539,
       {-0.260144253193, 0.029485202981, 0.002946389892, 0.067577053297, 0.047682634019, 0.076601389174}},
      {"grpo, rollout_is=token, rollout_is_threshold=2",
       policy_gradient{no_kl{}, grpo, clip, by_token}(corrected, rewards),
       0.139503985228,
       {0.123048455399, -0.104933081385, 0.013158531270, -0.009668158816, 0.129481246110, -0.393466087916}},
  });
}

TEST_CASE("A step has the loss and the gradient of regressions: QRPO, and TRL's A2PO") {
  // QRPO, 2β·L: mean over responses of (T − βδ)², T = F̂(r) − β·log Z, F̂ the share of the reference rewards ≤ r, and
  //   log Z = log β + 1/β in place of log(β·(e^{1/β} − 1))
  // A2PO, 2β₂·L: mean of (β₂δ − (r − V))², V = β₁·log of the mean of e^{z/β₁} over the reference rewards z
  const matrix<double> references{{.2, .6, -1, .4}, {3, 20, 12, 13}};
  const auto scaled = [](step_result<double> out, double by) {
    out.loss *= by;
    out.gradient *= by;
    return out;
  };
  const double beta = 0.5, beta2 = 1e-3;
  const array<double> F = flat(calibrate(references, rewards, weak_rank{})),
                      target = F - beta * (std::log(beta) + 1 / beta);
  const matrix<double> less_value = rewards.colwise() - optimal_values(references, at_beta{0.5});
  check({
      {"QRPO, identity, beta=0.5",
       scaled(policy_gradient{no_kl{}, no_baseline{}, regression{beta}}(on_policy, target), 2 * beta),
       0.111766207216,
       {-0.080477991900, 0.171142136573, -0.062191196760, -0.161713204860, 0.020262265047, 0.411188674767}},
      {"A2PO, beta1=0.5, beta2=1e-3",
       scaled(policy_gradient{no_kl{}, no_baseline{}, regression{beta2}}(on_policy, less_value), 2 * beta2),
       47.05525081282381,
       {-0.001179163151, 0.000528148073, -0.000072118594, -0.007307193291, -0.001602267764, 0.023845055486}},
  });
}

TEST_CASE("Metrics are those of other trainers") {
  const auto grpo =
      policy_gradient{no_kl{}, group_standardized{}, ppo_clip{0.2, 0.28}, token_mean{}}(off_policy, rewards);
  CHECK(grpo.metrics.clip_ratio_low == near(4 / 23.0, 1e-10));   // TRL clip_ratio/low_mean: ρ < 1 − ε and A < 0
  CHECK(grpo.metrics.clip_ratio_high == near(3 / 23.0, 1e-10));  // TRL clip_ratio/high_mean: ρ > 1 + ε_high and A > 0
  CHECK(grpo.metrics.clip_ratio == near(7 / 23.0, 1e-10));       // TRL clip_ratio/region_mean, OpenRLHF ppo_clip_ratio
  CHECK(grpo.metrics.approx_kl == near(-0.046086956522, 1e-10));  // OpenRLHF ppo_kl, verl actor/ppo_kl
  CHECK(grpo.metrics.reward == near(5.4, 1e-10));                 // TRL reward
  CHECK(grpo.metrics.reward_std == near(6.414047084330, 1e-10));  // TRL reward_std, over the batch

  // verl counts what clip_ratio_c clips separately: actor/pg_clipfrac 7/23, actor/pg_clipfrac_lower 1/23.
  const auto verl =
      policy_gradient{no_kl{}, group_standardized{1e-6}, ppo_clip{0.2, 0.28, 3}, token_mean{}}(off_policy, rewards);
  CHECK(verl.metrics.clip_ratio == near(8 / 23.0, 1e-10));

  // TRL's RLOOTrainer: kl is the mean over tokens, and clipping is counted by sequence.
  const auto rloo = policy_gradient{no_kl{}, leave_one_out{}, sequence_clip{}}(off_policy, prompt, penalised(0.05));
  CHECK(rloo.metrics.clip_ratio_low == near(1 / 6.0, 1e-10));
  CHECK(rloo.metrics.clip_ratio_high == near(2 / 6.0, 1e-10));
  const auto first = policy_gradient{k1_in_reward{0.05}, leave_one_out{}, sequence_clip{}}(on_policy, rewards);
  CHECK(first.metrics.kl_per_token == near(0.043913043478, 1e-10));
}

TEST_CASE("Deliberate differences to other trainers are as documented") {
  const auto grpo = group_standardized{};  // ε = 1e-4
  const auto clip = ppo_clip{.low = 0.2, .high = 0.28};

  // TRL divides by all responses and all tokens, the unscored ones too.
  const auto scaled = [](step_result<double> x, double factor) {
    x.loss *= factor;
    x.gradient *= factor;
    return x;
  };
  check({
      {"TRL grpo, one of six responses unscored, times 5/6",
       scaled(policy_gradient{no_kl{}, grpo, clip, sequence_mean_of_token_means{}, unscored::propagate}(off_policy,
                                                                                                        one_missing),
              5 / 6.0),
       0.071899419442,
       {0.126133041026, 0, -0.227152539270, -0.016466002943, 0.091389877915, -0.187963294130}},
      {"TRL bnpo, 3 of 23 tokens unscored, times 20/23",
       scaled(policy_gradient{no_kl{}, grpo, clip, token_mean{}, unscored::propagate}(off_policy, one_missing),
              20 / 23.0),
       0.187707521429,
       {0.164521357860, 0, -0.237028736630, -0.017181916115, 0.047681675434, -0.245169514082}},
  });

  // Off-policy, a KL loss is weighted by ρ: ℓ + β·stopgrad(ρ)·k3. TRL's use_bias_correction_kl has the same loss, and
  // differentiates its ρ too.
  check({{"TRL dapo, beta=0.04, use_bias_correction_kl, with its ratio held constant",
          policy_gradient{k3_token_loss{0.04}, grpo, clip, token_mean{}}(off_policy, rewards),
          0.137933099313,
          {0.216928754716, -0.119690690879, -0.001952652546, -0.004720736875, 0.045647445028, -0.252400892072}}});

  // In verl's grpo and rloo a response that is alone in its group has its raw reward as advantage (in grpo over 1 + 1e-6).
  // Here it has 0.
  const std::vector<int> alone{0, 1, 1};
  const array<double> three{{2, 1, 4}};
  const array<double> a = advantage(alone, three, leave_one_out{}),
                      b = advantage(alone, three, group_standardized{1e-6});
  CHECK(a[0] == 0);
  CHECK(b[0] == 0);
  CHECK(a[1] == -3);

  // OpenRLHF divides the rounding error of an equal group by 1e-9. Here equal rewards have exactly 0.
  const matrix<double> equal{{0.1, 0.1, 0.1}};
  CHECK((advantage(equal, group_standardized{1e-9}) == 0).all());
}
