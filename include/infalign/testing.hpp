// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

/// \file
/// Checks for unit tests of reward pipelines. Not part of `infalign.hpp`. These are included by their own names: the
/// adapters testing/catch2.hpp and testing/gtest.hpp, and testing/threads.hpp, which needs a library of threads.
///
/// Checks are templates of their options, so that a program compiles only those that it uses.

#include <infalign/testing/advantages.hpp>
#include <infalign/testing/calibration.hpp>
#include <infalign/testing/invariance.hpp>
#include <infalign/testing/kl.hpp>
#include <infalign/testing/log.hpp>
#include <infalign/testing/loop.hpp>
#include <infalign/testing/order.hpp>
#include <infalign/testing/pipeline.hpp>
#include <infalign/testing/report.hpp>
#include <infalign/testing/rewards.hpp>
#include <infalign/testing/search.hpp>
#include <infalign/testing/small_policy.hpp>
#include <infalign/testing/steps.hpp>
#include <infalign/testing/token_case.hpp>
#include <infalign/testing/unbiased_step.hpp>
