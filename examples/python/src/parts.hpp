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

using stage =
    std::variant<identity, logarithm, exponential, normalized_exponential, power, soft_logarithm, tabulated, callback>;

/// Transforms, one after another.
struct any_transform {
  std::vector<stage> stages;
  std::vector<made_by> made;

  template <real_scalar S>
  void check(S) const {
    for (const auto& s : stages) std::visit([](const auto& phi) { detail::check_part<S>(phi); }, s);
  }
  template <real_scalar S>
  S operator()(S u) const {
    for (const auto& s : stages) u = std::visit([u](const auto& phi) { return static_cast<S>(phi(u)); }, s);
    return u;
  }
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

/// Any other rank functor.
struct any_rank_function {
  std::function<double(Index, Index, Index)> rank;
  double operator()(Index below, Index tied, Index count) const { return rank(below, tied, count); }
};
struct any_rank {
  std::variant<mid_rank, strict_rank, weak_rank, add_one_rank, any_rank_function> rank;
  made_by made;
};
any_rank rank_of(py::handle rank);

/// A procedure. `sample_size` throws if it can draw any number of responses.
struct any_procedure {
  std::variant<plain_sampling, best_of, worst_of, order_statistic, soft_best_of, random_best_of, best_of_poisson,
               from_cdf<callback>>
      procedure;
  made_by made;

  void check() const {
    std::visit([](const auto& p) { detail::check_part(p); }, procedure);
  }
  double cdf(double u) const {
    return std::visit([u](const auto& p) { return p.cdf(u); }, procedure);
  }
  double density(double u) const {
    return std::visit([u](const auto& p) { return p.density(u); }, procedure);
  }
  Index sample_size() const {
    return std::visit(
        []<class P>(const P& p) -> Index {
          if constexpr (sample_procedure<P>)
            return p.sample_size();
          else
            detail::fail("infalign", "a procedure that draws a known number of responses", "one from a CDF");
        },
        procedure);
  }
  double sample_cdf(Index below, Index count) const {
    return std::visit(
        [&]<class P>(const P& p) -> double {
          if constexpr (sample_procedure<P>)
            return p.sample_cdf(below, count);
          else
            detail::fail("infalign", "a procedure that draws a known number of responses", "one from a CDF");
        },
        procedure);
  }
};
any_procedure procedure_of(py::handle procedure);
static_assert(sample_procedure<any_procedure>);

/// Weighted pairs of procedures.
struct any_use {
  std::vector<user_share<any_procedure>> shares;

  void check() const {
    double sum = 0;
    for (const auto& s : shares) s.check(), sum += s.share;
    if (!(std::abs(sum - 1) <= 1e-9)) detail::fail("mixed_use", "shares that sum to 1", detail::concat(sum));
  }
  double loss(double F, double u) const {
    return total([=](const auto& s) { return s.loss(F, u); });
  }
  double slope(double F, double u) const {
    return total([=](const auto& s) { return s.slope(F, u); });
  }
  double rise(double F, double from, double to) const {
    return total([=](const auto& s) { return s.rise(F, from, to); });
  }
  bool convex() const {
    bool result = true;
    for (const auto& s : shares) result = result && s.convex();
    return result;
  }

 private:
  template <class F>
  double total(const F& f) const {
    double sum = 0;
    for (const auto& s : shares) sum += f(s);
    return sum;
  }
};
static_assert(inference_use<any_use>);
/// A `mixed_use`, or a procedure with that of the reference, None for the same.
any_use use_of(py::handle policy, py::handle reference);

template <real_scalar S>
void any_transform::apply(const detail::rows_view<S>& rows, Index columns, unscored on_unscored,
                          detail::domain first) const {
  detail::transform_call how{{"transform", on_unscored}, first, columns};
  for (const auto& s : stages) {
    if (const auto* f = std::get_if<callback>(&s)) {
      detail::transform_rows<S>(how, identity{}, rows, rows);  // checks the numbers
      py::array_t<S> u(rows.size());
      for (Index r = 0; r < rows.rows; ++r) std::copy_n(rows.row(r), rows.columns, u.mutable_data() + r * rows.columns);
      const auto y = read_rows<S>("values of a transform", f->function()(u));
      if (y.size() != rows.size())
        detail::fail("transform", detail::concat(rows.size(), " values from the function, one for each number"),
                     detail::concat(y.size()));
      for (Index r = 0; r < rows.rows; ++r)
        for (Index c = 0; c < rows.columns; ++c) {
          const S value = y.data[r * rows.columns + c];
          if (!detail::is_finite(value) && !detail::is_nan(rows.row(r)[c]))
            detail::fail("transform", "a finite value of the transform",
                         detail::concat(value, " for ", rows.row(r)[c]));
          rows.row(r)[c] = detail::is_nan(rows.row(r)[c]) ? rows.row(r)[c] : value;
        }
    } else {
      std::visit(
          [&]<class F>(const F& phi) {
            if constexpr (!std::same_as<F, callback>) detail::transform_rows<S>(how, phi, rows, rows);
          },
          s);
    }
    how = {{"transform", unscored::propagate}, detail::domain::any, columns};
  }
}

}  // namespace infalign::python
