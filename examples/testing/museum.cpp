// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#include "museum.hpp"

#include <iostream>

// Prints each bug of the museum, where it was reported, and the report of the check that finds it.
int main() {
  int found = 0, quiet = 0, exhibits = 0;
  for (const auto& bugs : {reward_bugs(), step_bugs()})
    for (const auto& bug : bugs) {
      std::cout << ++exhibits << ". " << bug.name << " (" << bug.source << ")\n" << bug.with_bug << "\n";
      found += !bug.with_bug;
      quiet += bool(bug.without_bug);
    }
  std::cout << found << " of " << exhibits << " bugs are found, and " << quiet << " of " << exhibits
            << " right versions pass.\n";
  return found == exhibits && quiet == exhibits ? 0 : 1;
}
