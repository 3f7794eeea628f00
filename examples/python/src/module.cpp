// SPDX-License-Identifier: MIT
#include "numpy.hpp"

PYBIND11_MODULE(_core, m) {
  m.doc() = "The functions of infalign. Import infalign instead.";
  // A mistake is a ValueError with the library's text: pybind11 makes it of std::invalid_argument.
  infalign::python::bind_parts(m);
  infalign::python::bind_measures(m);
  infalign::python::bind_rewards(m);
  infalign::python::bind_theory(m);
  infalign::python::bind_step(m);
}
