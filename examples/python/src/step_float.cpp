// SPDX-License-Identifier: MIT
#include "step_impl.hpp"

namespace infalign::python {

template step_result<float> run_step(const step_parts&, const token_batch<float, std::uint8_t>&,
                                     const batch_rewards<float>&, const any_reduction&);

}  // namespace infalign::python
