// SPDX-License-Identifier: MIT
#include "step_impl.hpp"

namespace infalign::python {

template void run_advantage(const any_estimator&, const batch_view<double>&, unscored, Eigen::Map<matrix<double>>);
template step_result<double> run_step(const step_parts&, const token_batch<double, std::uint8_t>&,
                                      const batch_view<double>&, const any_reduction&);
template step_result<double> run_loss(const step_parts&, const token_batch<double, std::uint8_t>&,
                                      const number_rows<double>&, const std::optional<batch_size>&);
template matrix<double> run_advantages(const step_parts&, const token_batch<double, std::uint8_t>&,
                                       const batch_view<double>&, const any_reduction&);

}  // namespace infalign::python
