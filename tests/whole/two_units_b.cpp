// SPDX-License-Identifier: MIT
#include <infalign/infalign.hpp>

double median_rank_elsewhere() {
  const infalign::matrix<double> reference{{1, 2, 3}};
  return infalign::calibrate(reference, reference)(0, 1);
}
