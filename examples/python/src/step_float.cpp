// SPDX-License-Identifier: MIT
#include "step_impl.hpp"

namespace infalign::python {

template void run_advantage(const any_estimator&, const batch_view<float>&, unscored, Eigen::Map<matrix<float>>);
template step_result<float> run_step(const step_parts&, const token_batch<float, std::uint8_t>&,
                                     const batch_view<float>&, const any_reduction&);
template step_result<float> run_loss(const step_parts&, const token_batch<float, std::uint8_t>&,
                                     const number_rows<float>&, const std::optional<batch_size>&);
template matrix<float> run_advantages(const step_parts&, const token_batch<float, std::uint8_t>&,
                                      const batch_view<float>&, const any_reduction&);

}  // namespace infalign::python
