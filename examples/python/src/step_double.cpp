// SPDX-License-Identifier: MIT
#include "step_impl.hpp"

namespace infalign::python {

template step_result<double> run_step(const step_parts&, const token_batch<double, std::uint8_t>&,
                                      const batch_rewards<double>&, const any_reduction&);

}  // namespace infalign::python
