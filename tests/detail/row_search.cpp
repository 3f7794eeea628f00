// SPDX-License-Identifier: MIT
#include <infalign/detail/row_search.hpp>

#include "arrays.hpp"

#include <algorithm>
#include <vector>

using namespace infalign;
using Eigen::Index;

TEMPLATE_TEST_CASE("A search finds what the standard library finds, for every size and place", "", float, double) {
  using S = TestType;
  int wrong = 0;
  const Index together = detail::searched_together<S>, alone = detail::searched_alone<S>;
  for (const Index K : {Index{1}, Index{2}, Index{31}, together - 1, together, together + 1, together + 2, together + 3,
                        Index{300}, Index{511}, Index{513}, alone - 1, alone, alone + 1}) {
    std::vector<S> row(static_cast<std::size_t>(K));
    for (std::size_t k = 0; k < row.size(); ++k) row[k] = static_cast<S>(2 * (k / 3));  // ties of three
    const Index M = K + 4;
    std::vector<S> rewards(static_cast<std::size_t>(M));
    for (std::size_t i = 0; i < rewards.size(); ++i) rewards[i] = static_cast<S>(i) - 1;  // between and equal
    std::vector<int> times(rewards.size(), 0);
    detail::search_each(row.data(), K, rewards.data(), M, [&](Index first, int n, const auto& c) {
      for (int j = 0; j < n; ++j) {
        const auto i = static_cast<std::size_t>(first + j);
        ++times[i];
        const auto below = std::lower_bound(row.begin(), row.end(), rewards[i]) - row.begin();
        const auto at_most = std::upper_bound(row.begin(), row.end(), rewards[i]) - row.begin();
        wrong += c[j].below != below || c[j].tied != at_most - below;
      }
    });
    CHECK(times == std::vector<int>(rewards.size(), 1));
  }
  CHECK(wrong == 0);
}
