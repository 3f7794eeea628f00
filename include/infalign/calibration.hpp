// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

/// \file
/// A reward becomes its rank among the reference policy's rewards for the same prompt.

#include <infalign/calibration/calibrate.hpp>
#include <infalign/calibration/joint.hpp>
#include <infalign/calibration/leave_one_out.hpp>
#include <infalign/calibration/prior.hpp>
#include <infalign/calibration/prior_state.hpp>
#include <infalign/calibration/prompt_keys.hpp>
#include <infalign/calibration/rank.hpp>
#include <infalign/calibration/rank_combination.hpp>
#include <infalign/calibration/reference.hpp>
#include <infalign/calibration/sorted.hpp>
#include <infalign/calibration/unbiased_rank.hpp>
#include <infalign/calibration/with_prior.hpp>
