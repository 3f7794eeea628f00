// SPDX-License-Identifier: MIT
#include <infalign/infalign.hpp>

int main() {
  const infalign::matrix<float> reference{{1, 2, 3, 4}};
  const infalign::matrix<float> rewards{{2.5f}};
  return infalign::calibrate(reference, rewards)(0, 0) == 0.5f ? 0 : 1;
}
