// SPDX-License-Identifier: MIT
#include "loss_impl.hpp"

namespace infalign::python {

template void run_stage(const loss_parts&, const char*, step_result<double>&, const token_batch<double, std::uint8_t>&,
                        const batch_size&, const detail::response_credit<double>&, double, detail::response_sums*,
                        bool);
template void run_stage(const loss_parts&, const char*, step_result<double>&, const token_batch<double, std::uint8_t>&,
                        const batch_size&, const any_token_credit<double>&, double, detail::response_sums*, bool);

}  // namespace infalign::python
