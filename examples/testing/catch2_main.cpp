// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
// The main function that Catch2 version 2 leaves to its users.
#define CATCH_CONFIG_MAIN
#include <catch2/catch.hpp>
