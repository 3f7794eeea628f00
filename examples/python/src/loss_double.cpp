// SPDX-License-Identifier: MIT
#include "step_impl.hpp"

namespace infalign::python {

template step_result<double> run_loss(const step_parts&, const token_batch<double, std::uint8_t>&,
                                      const rows_in<double>&, const std::optional<batch_size>&);
template matrix<double> run_advantages(const step_parts&, const token_batch<double, std::uint8_t>&,
                                       const batch_rewards<double>&, const any_reduction&);

}  // namespace infalign::python
