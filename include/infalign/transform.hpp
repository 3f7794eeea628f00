// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

/// \file
/// A calibrated reward becomes the reward that is trained on.

#include <infalign/transform/functions.hpp>
#include <infalign/transform/shaping.hpp>
#include <infalign/transform/transform.hpp>
#include <infalign/transform/transforms.hpp>
