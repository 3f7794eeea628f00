// SPDX-License-Identifier: MIT
#pragma once

// Parts that are chosen when a program runs: transforms, ranks and procedures as one type each.
#include "numpy.hpp"

#include <functional>
#include <variant>

namespace infalign::python {

/// A Python function that C++ threads may call and destroy.
class callback {
 public:
  explicit callback(py::object f)
      : function_(new py::object(std::move(f)), [](py::object* p) {
          const py::gil_scoped_acquire acquired;
          delete p;
        }) {}
  const py::object& function() const { return *function_; }
  /// f(x) as a number.
  double operator()(double x) const {
    const py::gil_scoped_acquire acquired;
    return number((*function_)(x));
  }
  /// What a function returned, as a number.
  static double number(const py::object& result) {
    const double x = PyFloat_AsDouble(result.ptr());
    if (x == -1 && PyErr_Occurred()) throw py::error_already_set();
    return x;
  }

 private:
  std::shared_ptr<py::object> function_;
};

/// What a part was made from: a constructor of this module and its arguments, to print and to pickle it.
struct made_by {
  std::string name;
  py::dict arguments;
};
std::string text_of(const made_by& m);
/// The argument `name` of a part, as an attribute.
py::object argument(const made_by& m, const std::string& name);
/// How a part is pickled: a function of this module, its name and its arguments.
py::tuple reduced(const std::vector<made_by>& made);

using stage =
    std::variant<identity, logarithm, exponential, normalized_exponential, power, soft_logarithm, tabulated, callback>;

/// Transforms, one after another.
struct any_transform {
  std::vector<stage> stages;
  std::vector<made_by> made;

  /// Appends the transform of a Python object.
  void append(py::handle next);
  template <real_scalar S>
  void check(S) const;
  template <real_scalar S>
  S operator()(S u) const;
  /// Replaces u by Φ(u). The GIL is held if a stage is a Python function.
  template <real_scalar S>
  void apply(const detail::rows_view<S>& rows, Index columns, unscored on_unscored, detail::domain first) const;
  bool calls_python() const {
    for (const auto& s : stages)
      if (std::holds_alternative<callback>(s)) return true;
    return false;
  }
};
any_transform transform_of(py::handle phi);

/// (below + ties·tied + more)/(count + more): the mid, strict, weak and add-one ranks as one type, with the same bits.
struct simple_rank {
  double ties, more;
  static constexpr bool finite = true;
  double operator()(Index below, Index tied, Index count) const {
    return (static_cast<double>(below) + ties * static_cast<double>(tied) + more) / (static_cast<double>(count) + more);
  }
};
inline constexpr simple_rank default_rank{0.5, 0};

/// Any other rank functor.
struct any_rank_function {
  std::function<double(Index, Index, Index)> rank;
  double operator()(Index below, Index tied, Index count) const { return rank(below, tied, count); }
};
struct any_rank {
  std::variant<simple_rank, any_rank_function> rank = default_rank;
  made_by made;
};
/// The rank functor of a Python object, the mid-rank for None.
std::variant<simple_rank, any_rank_function> rank_of(py::handle rank);

/// A procedure. `sample_size` throws if it can draw any number of responses.
struct any_procedure {
  std::variant<plain_sampling, best_of, worst_of, order_statistic, soft_best_of, random_best_of, best_of_poisson,
               from_cdf<callback>>
      procedure;
  made_by made;

  void check() const;
  double cdf(double u) const;
  double density(double u) const;
  Index sample_size() const;
  double sample_cdf(Index below, Index count) const;
};
any_procedure procedure_of(py::handle procedure);
static_assert(sample_procedure<any_procedure>);

/// Weighted pairs of procedures.
struct any_use {
  std::vector<user_share<any_procedure>> shares;

  void check() const;
  double loss(double F, double u) const;
  double slope(double F, double u) const;
  double rise(double F, double from, double to) const;
  bool convex() const;
};
static_assert(inference_use<any_use>);
/// A `mixed_use`, or a procedure with that of the reference, None for the same.
any_use use_of(py::handle policy, py::handle reference);

}  // namespace infalign::python
