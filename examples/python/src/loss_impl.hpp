// SPDX-License-Identifier: MIT
#pragma once

#include "loss.hpp"

namespace infalign::python {

template <class Credit, real_scalar S>
void run_stage(const loss_parts& parts, const char* function, step_result<S>& result,
               const token_batch<S, std::uint8_t>& batch, const batch_size& size, const Credit& credit, double centre,
               detail::response_sums* sums, bool known) {
  std::visit(
      [&]<class KL, class F>(const KL& kl, const F& surrogate) {
        constexpr bool of_response = detail::of_whole_response<F>;
        if constexpr (of_response && !std::same_as<Credit, detail::response_credit<S>>)
          detail::fail(function, "one advantage for each response with this surrogate", "one for each token");
        else if constexpr (!std::same_as<F, regression> || KL::place == kl_place::none)
          detail::loss_stage<KL, F, any_aggregation>(kl, surrogate, parts.aggregation)
              .run(function, result, nullptr, batch, size, credit, centre, sums, known);
      },
      parts.kl, parts.surrogate);
}

}  // namespace infalign::python
