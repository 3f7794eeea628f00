// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

/// \file
/// The policy that training on a transform leads to, computed before any training; and the best transforms.

#include <infalign/theory/aligned_policy.hpp>
#include <infalign/theory/ascent_transform.hpp>
#include <infalign/theory/best_exponential.hpp>
#include <infalign/theory/few_references.hpp>
#include <infalign/theory/finite_policy.hpp>
#include <infalign/theory/log_partition.hpp>
#include <infalign/theory/mixed_use.hpp>
#include <infalign/theory/optimal_transform.hpp>
