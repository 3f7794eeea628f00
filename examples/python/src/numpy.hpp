// SPDX-License-Identifier: MIT
#pragma once

// Numbers of Python as the library's arrays, and back: without a copy if dtype and layout fit.
#include "batch.hpp"

#include <infalign/infalign.hpp>

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace infalign::python {

namespace py = pybind11;

/// The value of an enumeration with this name: value k has names[k]. `expected`: what the error says of the names.
template <class Enum, std::size_t n>
Enum with_name(const char* function, const char* expected, const char* const (&names)[n], const std::string& name) {
  for (std::size_t k = 0; k < n; ++k)
    if (name == names[k]) return static_cast<Enum>(k);
  detail::fail(function, expected, "\"" + name + "\"");
}

/// "error" or "propagate".
unscored unscored_of(const std::string& name);
/// True if an object is an array of float32 or float16, or a tensor that becomes one.
bool is_single(py::handle numbers);
/// Anything that NumPy makes an array of: an array as it is, a list, a tensor. None becomes NaN.
py::array to_array(const char* what, py::handle numbers);

/// Rows in the caller's memory or in a copy. It owns what it views.
template <real_scalar S>
struct rows_in : number_rows<S> {
  py::object owner;
};

/// Throws unless a dtype has real numbers.
void check_kind(const char* what, const py::dtype& type);

/// Reads an array of one or two dimensions.
template <real_scalar S>
rows_in<S> read_rows(const char* what, py::handle numbers);

/// Prompt indices: an array of integers of one dimension.
class indices {
 public:
  explicit indices(py::handle prompt);
  std::span<const std::int64_t> view() const { return view_; }

 private:
  py::object owner_;
  std::span<const std::int64_t> view_;
};

/// Throws unless rewards are P × M, or of one dimension with prompts.
template <real_scalar S>
void check_shape(const char* function, const number_rows<S>& rewards, bool with_prompt) {
  if (rewards.flat != with_prompt)
    detail::fail(function, "rewards of two dimensions (P x M), or of one with prompt=",
                 rewards.flat ? "one dimension without prompt" : "two dimensions and prompt");
}

/// A new array of the shape of some rows, and a view to write to.
template <real_scalar S>
struct result_rows {
  py::array_t<S> numbers;
  Eigen::Map<matrix<S>> view;
};
template <real_scalar S>
result_rows<S> new_result(const number_rows<S>& like) {
  py::array_t<S> numbers =
      like.flat ? py::array_t<S>(like.columns) : py::array_t<S>(std::vector<py::ssize_t>{like.rows, like.columns});
  return {numbers, Eigen::Map<matrix<S>>(numbers.mutable_data(), like.rows, like.columns)};
}

/// A batch that owns what it views.
template <real_scalar S>
class batch_rewards {
 public:
  batch_rewards(const char* function, py::handle rewards, py::handle prompt)
      : rewards_(read_rows<S>("rewards", rewards)) {
    if (!prompt.is_none()) prompt_.emplace(prompt);
    check_shape(function, rewards_, prompt_.has_value());
  }
  batch_view<S> view() const {
    if (prompt_) return {rewards_, prompt_->view()};
    return {rewards_, std::nullopt};
  }
  const rows_in<S>& rewards() const { return rewards_; }

 private:
  rows_in<S> rewards_;
  std::optional<indices> prompt_;
};

/// A copy as an array of NumPy.
template <class E>
py::array_t<typename E::Scalar> copied(const E& values) {
  if constexpr (E::IsVectorAtCompileTime) {
    py::array_t<typename E::Scalar> result(values.size());
    Eigen::Map<array<typename E::Scalar>>(result.mutable_data(), values.size()) = detail::as_column(values);
    return result;
  } else {
    py::array_t<typename E::Scalar> result(std::vector<py::ssize_t>{values.rows(), values.cols()});
    Eigen::Map<matrix<typename E::Scalar>>(result.mutable_data(), values.rows(), values.cols()) = values;
    return result;
  }
}

/// Hands a matrix over to NumPy without a copy.
template <real_scalar S>
py::array_t<S> handed_over(matrix<S>&& values) {
  auto* const owned = new matrix<S>(std::move(values));
  const py::capsule owner(owned, [](void* p) { delete static_cast<matrix<S>*>(p); });
  return py::array_t<S>(std::vector<py::ssize_t>{owned->rows(), owned->cols()}, owned->data(), owner);
}

/// f(), with the GIL released if it does much work. (To release it takes a tenth of a microsecond.)
template <class F>
decltype(auto) without_gil(double work, const F& f) {
  if (work < 2e4) return f();
  const py::gil_scoped_release released;
  return f();
}

/// A table of reference rewards: the rows of an array, or lists of different lengths. It owns what it views.
template <real_scalar S>
class table {
 public:
  using Scalar = S;

  explicit table(py::handle reference);

  Index rows() const { return rows_; }
  Eigen::Map<const array<S>> row(Index p) const {
    if (offsets_)
      return {data_ + (*offsets_)[std::size_t(p)], (*offsets_)[std::size_t(p) + 1] - (*offsets_)[std::size_t(p)]};
    return {data_ + p * stride_, columns_};
  }
  /// Roughly the work of ranking n rewards.
  double work(Index n) const { return static_cast<double>(n) * static_cast<double>(rows_ > 0 ? row(0).size() : 0); }
  py::object owner() const { return owner_; }

 private:
  py::object owner_;
  const S* data_ = nullptr;
  Index rows_ = 0, columns_ = 0, stride_ = 0;
  std::shared_ptr<const std::vector<Index>> offsets_;
};

/// Calls f(S{}) with the scalar type of the numbers: float for float32 and float16, else double.
template <class F>
decltype(auto) with_scalar(py::handle numbers, const F& f) {
  if (is_single(numbers)) return f(float{});
  return f(double{});
}

/// The estimate as a tuple with names.
py::object estimate(const mean_estimate& e);

void bind_parts(py::module_& m);
void bind_rewards(py::module_& m);
void bind_theory(py::module_& m);
void bind_measures(py::module_& m);
void bind_step(py::module_& m);
void bind_checks(py::module_& core);

}  // namespace infalign::python
