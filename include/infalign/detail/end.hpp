// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors

/// \file
/// The last line of every header: undoes `begin.hpp`.

#if defined(__GNUC__)
#pragma GCC diagnostic pop
#endif
#pragma pop_macro("I")
#pragma pop_macro("check")
#pragma pop_macro("fail")
#pragma pop_macro("max")
#pragma pop_macro("min")
