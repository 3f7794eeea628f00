// SPDX-License-Identifier: MIT
// Compiled twice with unlike flags, as UNIT=1 and UNIT=2, and linked into one program with UNIT=0: each unit has its own
// functions, so that its numbers do not depend on the order of linking. See programs/mixed_flags.sh.
#include <cstdio>

#if UNIT == 0
void first();
void second();

int main(int arguments, char**) {
  if (arguments > 1) {  // the first unit alone
    first();
    return 0;
  }
#if defined(__x86_64__)
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) {
    std::puts("skipped: this processor has no AVX2");
    return 0;
  }
#endif
  first();
  second();
}
#else
#include <infalign/infalign.hpp>

static void run(const char* name) {
  using namespace infalign;
  using Eigen::Index;
  matrix<float> reference(20, 33), rewards(20, 9), now(180, 131), before(180, 131),
      mask = matrix<float>::Ones(180, 131);
  for (Index i = 0; i < reference.size(); ++i) reference.data()[i] = static_cast<float>(i * 37 % 101);
  for (Index i = 0; i < rewards.size(); ++i) rewards.data()[i] = static_cast<float>(i * 53 % 97);
  for (Index i = 0; i < now.size(); ++i) {
    now.data()[i] = -1 - static_cast<float>(i % 10) / 100, before.data()[i] = -1;
    if (i % 7 == 3) mask.data()[i] = 0;
  }
  const auto shaped = (calibration{reference} | exponential{.t = 10})(rewards);
  const token_batch<float> batch{
      .log_probabilities = now, .reference_log_probabilities = before, .mask = mask, .old_log_probabilities = before};
  const policy_gradient step{k3_token_loss{.beta = 0.1}, group_standardized{}, ppo_clip{}, token_mean{}};
  const auto out = step(batch, shaped);
  std::printf("%s: shaped %.9g, loss %.9g, gradient %.9g\n", name, static_cast<double>(shaped.sum()), out.loss,
              static_cast<double>(out.gradient.abs().sum()));
}

#if UNIT == 1
void first() {
  run("first");
}
#else
void second() {
  run("second");
}
#endif
#endif
