// SPDX-License-Identifier: MIT
#include "loss_impl.hpp"

namespace infalign::python {

template void run_stage(const loss_parts&, const char*, step_result<float>&, const token_batch<float, std::uint8_t>&,
                        const batch_size&, const detail::response_credit<float>&, double, detail::response_sums*, bool);
template void run_stage(const loss_parts&, const char*, step_result<float>&, const token_batch<float, std::uint8_t>&,
                        const batch_size&, const any_token_credit<float>&, double, detail::response_sums*, bool);

}  // namespace infalign::python
