// SPDX-License-Identifier: MIT
#pragma once

#include "parts.hpp"

namespace infalign {
// Compiled in rewards.cpp.
extern template class calibration_prior<float>;
extern template class calibration_prior<double>;
}  // namespace infalign

namespace infalign::python {

/// A prior of float or double rewards.
struct any_prior {
  std::variant<calibration_prior<float>, calibration_prior<double>> prior;
};

/// `calibration{reference, rank or prior}` with the transforms that follow it.
template <real_scalar S>
struct shaping {
  std::variant<calibration<table<S>, simple_rank>, calibration<table<S>, any_rank_function>,
               calibration<table<S>, calibration_prior<S>>>
      calibrate;
  Index prompts;
  double count;  ///< of a prompt, for the amount of work
};

/// The calibration functor of Python: its parts, and the functor of its scalar type.
struct any_calibration {
  py::object reference, rank, prior;
  std::string on_unscored;
  std::shared_ptr<const std::variant<shaping<float>, shaping<double>>> functor;
  any_transform transforms;
};
any_calibration make_calibration(const py::object& reference, const py::object& rank, const py::object& prior,
                                 const std::string& on_unscored);

}  // namespace infalign::python
