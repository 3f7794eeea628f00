// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

/// \file
/// One policy-gradient step: its input, its parts, its output.

#include <infalign/step/advantage.hpp>
#include <infalign/step/aggregation.hpp>
#include <infalign/step/kl.hpp>
#include <infalign/step/kl_controller.hpp>
#include <infalign/step/logits.hpp>
#include <infalign/step/max_at_n.hpp>
#include <infalign/step/order_weighted.hpp>
#include <infalign/step/policy_advantages.hpp>
#include <infalign/step/policy_gradient.hpp>
#include <infalign/step/policy_loss.hpp>
#include <infalign/step/probability_ratio.hpp>
#include <infalign/step/step_result.hpp>
#include <infalign/step/surrogate.hpp>
#include <infalign/step/token_batch.hpp>
