// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/advantage.hpp>
#include <infalign/aggregation.hpp>
#include <infalign/best_exponential.hpp>
#include <infalign/calibration.hpp>
#include <infalign/core.hpp>
#include <infalign/counting.hpp>
#include <infalign/drift.hpp>
#include <infalign/estimate.hpp>
#include <infalign/groups.hpp>
#include <infalign/kl.hpp>
#include <infalign/kl_controller.hpp>
#include <infalign/max_at_n.hpp>
#include <infalign/numerics.hpp>
#include <infalign/optimal_transform.hpp>
#include <infalign/parallel.hpp>
#include <infalign/policy_gradient.hpp>
#include <infalign/procedure.hpp>
#include <infalign/prompt_keys.hpp>
#include <infalign/reference.hpp>
#include <infalign/row_counts.hpp>
#include <infalign/shaping.hpp>
#include <infalign/step_result.hpp>
#include <infalign/surrogate.hpp>
#include <infalign/tilted_policy.hpp>
#include <infalign/token_batch.hpp>
#include <infalign/transform.hpp>
#include <infalign/unbiased.hpp>
#include <infalign/vector_exp.hpp>
#include <infalign/win_rate.hpp>
#include <infalign/workspace.hpp>
