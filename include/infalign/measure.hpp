// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

/// \file
/// Measurements: win rates, KL, and drift of the reference, with their uncertainty.

#include <infalign/measure/drift.hpp>
#include <infalign/measure/exact_win_rate.hpp>
#include <infalign/measure/kl_divergence.hpp>
#include <infalign/measure/mean_estimate.hpp>
#include <infalign/measure/shown_value.hpp>
#include <infalign/measure/win_rate.hpp>
