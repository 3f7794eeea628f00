// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

/// \file
/// Everything that needs Eigen alone. The headers of adapters/ are included by their own names.

#include <infalign/core.hpp>
#include <infalign/instruction_set.hpp>
#include <infalign/plan.hpp>
#include <infalign/procedure.hpp>
#include <infalign/workspace.hpp>

#include <infalign/calibration.hpp>
#include <infalign/measure.hpp>
#include <infalign/step.hpp>
#include <infalign/theory.hpp>
#include <infalign/transform.hpp>
