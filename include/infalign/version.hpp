// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

/// \file
/// The version of the library, for the preprocessor. CMake reads it here.

/// \def INFALIGN_VERSION_MAJOR
/// The first number of the version.
#define INFALIGN_VERSION_MAJOR 0
/// \def INFALIGN_VERSION_MINOR
/// The second number of the version. Before 1.0, a new one may rename things.
#define INFALIGN_VERSION_MINOR 2
/// \def INFALIGN_VERSION_PATCH
/// The third number of the version. A new one renames nothing.
#define INFALIGN_VERSION_PATCH 0

/// \def INFALIGN_VERSION_AT_LEAST(major, minor, patch)
/// True if the version is this one or a later one.
///
///     #if INFALIGN_VERSION_AT_LEAST(0, 2, 0)
#define INFALIGN_VERSION_AT_LEAST(major, minor, patch) \
  (INFALIGN_VERSION_MAJOR > (major) ||                 \
   (INFALIGN_VERSION_MAJOR == (major) &&               \
    (INFALIGN_VERSION_MINOR > (minor) || (INFALIGN_VERSION_MINOR == (minor) && INFALIGN_VERSION_PATCH >= (patch)))))
