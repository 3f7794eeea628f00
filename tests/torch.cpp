// SPDX-License-Identifier: MIT
#include <infalign/policy_gradient.hpp>
#include <infalign/torch.hpp>
#include <infalign/torch.hpp>  // compiles alone, and twice

#include <torch/csrc/autograd/autograd.h>

#undef CHECK  // Torch's own; below it is Catch2's
#include "catch.hpp"

using namespace infalign;

TEST_CASE("The loss of a step goes back through Torch's graph") {
  const auto logits = torch::randn({4, 3, 7}, torch::requires_grad());
  const auto now = logits.log_softmax(-1).select(-1, 0).contiguous();
  const policy_gradient step{no_kl{}, leave_one_out{}};
  const auto rewards = torch::rand({2, 2});
  torch_loss(step, {.log_probabilities = now}, rewards).backward();
  CHECK(logits.grad().abs().sum().item<double>() > 0);
}
