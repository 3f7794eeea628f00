// SPDX-License-Identifier: MIT
#pragma once

// Numbers of Python as the library's arrays, and back: without a copy if dtype and layout fit.
#include <infalign/infalign.hpp>

#include <pybind11/functional.h>
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace infalign::python {

namespace py = pybind11;
using Eigen::Index;

/// "error" or "propagate".
inline unscored unscored_of(const std::string& name) {
  if (name == "error") return unscored::error;
  if (name == "propagate") return unscored::propagate;
  detail::fail("infalign", "unscored of \"error\" or \"propagate\"", detail::concat("\"", name, "\""));
}

/// True if an object is an array of float32 or float16, or a tensor that becomes one.
inline bool is_single(py::handle numbers) {
  if (!py::isinstance<py::array>(numbers)) return false;
  const auto type = py::reinterpret_borrow<py::array>(numbers).dtype();
  return type.kind() == 'f' && type.itemsize() <= 4;
}

/// Anything that NumPy makes an array of: an array as it is, a list, a tensor. None becomes NaN.
inline py::array to_array(const char* what, py::handle numbers) {
  if (py::isinstance<py::array>(numbers)) return py::reinterpret_borrow<py::array>(numbers);
  auto result = py::array::ensure(numbers);
  if (result && result.dtype().kind() == 'O') {
    PyErr_Clear();
    result = py::array_t<double, py::array::forcecast>::ensure(numbers);
  }
  if (!result) {
    PyErr_Clear();
    detail::fail("infalign", detail::concat(what, " that NumPy can read as numbers"),
                 std::string(py::str(py::type::of(numbers))));
  }
  return result;
}

/// Rows of numbers that are contiguous, in the caller's memory or in a copy. It owns what it views.
template <real_scalar S>
struct rows_in {
  py::array owner;
  const S* data = nullptr;
  Index rows = 0, columns = 0, stride = 0;
  bool flat = false;  ///< of one dimension: one row

  using view = Eigen::Map<const matrix<S>, 0, Eigen::OuterStride<>>;
  view as_matrix() const { return {data, rows, columns, Eigen::OuterStride<>(stride)}; }
  /// Throws unless the numbers have one dimension.
  Eigen::Map<const array<S>> as_column() const {
    if (!flat) detail::fail("infalign", "numbers of one dimension", detail::concat(rows, " x ", columns));
    return {data, columns};
  }
  Index size() const { return rows * columns; }
};

/// Throws unless a dtype has real numbers.
inline void check_kind(const char* what, const py::dtype& type) {
  const char kind = type.kind();
  if (kind != 'f' && kind != 'i' && kind != 'u' && kind != 'b')
    detail::fail("infalign", detail::concat(what, " of real numbers"),
                 "an array of " + std::string(py::str(py::reinterpret_borrow<py::object>(type))));
}

/// True if a dtype is that of S, in the byte order of the machine.
template <real_scalar S>
bool is_native(const py::dtype& type) {
  constexpr int number = std::same_as<S, float> ? py::detail::npy_api::NPY_FLOAT_ : py::detail::npy_api::NPY_DOUBLE_;
  return type.num() == number && type.byteorder() == '=';
}

/// The flags of a copy: contiguous, converted, and aligned, which NumPy does not promise without being asked.
inline constexpr int copy_flags = py::array::c_style | py::array::forcecast | py::detail::npy_api::NPY_ARRAY_ALIGNED_;

/// Reads an array of one or two dimensions.
template <real_scalar S>
rows_in<S> read_rows(const char* what, py::handle numbers) {
  py::array given = to_array(what, numbers);
  if (given.ndim() != 1 && given.ndim() != 2)
    detail::fail("infalign", detail::concat(what, " of one or two dimensions"), detail::concat(given.ndim()));
  const auto item = static_cast<py::ssize_t>(sizeof(S));
  const bool flat = given.ndim() == 1;
  const auto usable = [&](const py::array& a) {
    if (!is_native<S>(a.dtype())) return false;
    if (reinterpret_cast<std::uintptr_t>(a.data()) % alignof(S) != 0) return false;
    if (a.size() == 0) return true;
    const bool contiguous = a.strides(flat ? 0 : 1) == item || a.shape(flat ? 0 : 1) <= 1;
    return contiguous && (flat || a.shape(0) <= 1 || (a.strides(0) % item == 0 && a.strides(0) >= a.shape(1) * item));
  };
  if (!usable(given)) {
    check_kind(what, given.dtype());
    given = py::array_t<S, copy_flags>::ensure(given);
    if (!given) detail::fail("infalign", detail::concat(what, " that NumPy can convert"), "others");
  }
  rows_in<S> result{given};
  result.data = static_cast<const S*>(given.data());
  result.flat = flat;
  result.rows = flat ? 1 : given.shape(0);
  result.columns = given.shape(flat ? 0 : 1);
  result.stride = flat || result.rows <= 1 || given.size() == 0 ? result.columns : given.strides(0) / item;
  return result;
}

/// Prompt indices: an array of integers of one dimension.
class indices {
 public:
  explicit indices(py::handle prompt) : values_(to_array("prompt", prompt)) {
    if (values_.ndim() != 1) detail::fail("infalign", "prompt of one dimension", detail::concat(values_.ndim()));
    const auto type = values_.dtype();
    const char kind = type.kind();
    if (values_.size() > 0 && kind != 'i' && kind != 'u')
      detail::fail("infalign", "prompt indices that are integers",
                   "an array of " + std::string(py::str(py::reinterpret_borrow<py::object>(type))));
    const bool usable = kind == 'i' && type.itemsize() == 8 && type.byteorder() == '=' && values_.size() > 0 &&
                        values_.strides(0) == 8 && reinterpret_cast<std::uintptr_t>(values_.data()) % 8 == 0;
    if (!usable) {
      values_ = py::array_t<std::int64_t, copy_flags>::ensure(values_);
      if (!values_) detail::fail("infalign", "prompt indices that NumPy can convert", "others");
    }
    data_ = static_cast<const std::int64_t*>(values_.data());
    size_ = values_.size();
  }
  std::size_t size() const { return static_cast<std::size_t>(size_); }
  std::int64_t operator[](std::size_t i) const { return data_[i]; }

 private:
  py::array values_;
  const std::int64_t* data_;
  py::ssize_t size_;
};

/// A new array of the shape of some rows, and a view to write to.
template <real_scalar S>
struct result_rows {
  py::array_t<S> numbers;
  Eigen::Map<matrix<S>> view;
};
template <real_scalar S>
result_rows<S> new_result(const rows_in<S>& like) {
  py::array_t<S> numbers =
      like.flat ? py::array_t<S>(like.columns) : py::array_t<S>(std::vector<py::ssize_t>{like.rows, like.columns});
  return {numbers, Eigen::Map<matrix<S>>(numbers.mutable_data(), like.rows, like.columns)};
}

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

  explicit table(py::handle reference) {
    if (!py::isinstance<py::array>(reference) && py::isinstance<py::sequence>(reference) && is_ragged(reference)) {
      std::vector<S> values;
      auto offsets = std::make_shared<std::vector<Index>>(1, 0);
      for (const py::handle row : reference) {
        const auto one = read_rows<S>("reference", row);
        if (!one.flat)
          detail::fail("infalign", "rows of reference rewards that are lists of numbers", "lists of lists");
        values.insert(values.end(), one.data, one.data + one.columns);
        offsets->push_back(static_cast<Index>(values.size()));
      }
      owner_ = copied(Eigen::Map<const array<S>>(values.data(), static_cast<Index>(values.size())));
      data_ = static_cast<const S*>(owner_.data());
      rows_ = static_cast<Index>(offsets->size()) - 1;
      offsets_ = std::move(offsets);
      return;
    }
    const auto rows = read_rows<S>("reference", reference);
    if (rows.flat)
      detail::fail("infalign", "a reference of two dimensions, with a row for each prompt", "one dimension");
    owner_ = rows.owner, data_ = rows.data, rows_ = rows.rows, columns_ = rows.columns, stride_ = rows.stride;
  }

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
  /// True if the rows of a sequence have different lengths.
  static bool is_ragged(py::handle rows) {
    py::ssize_t length = -1;
    for (const py::handle row : rows) {
      if (!py::hasattr(row, "__len__")) return false;
      const auto n = static_cast<py::ssize_t>(py::len(row));
      if (length >= 0 && n != length) return true;
      length = n;
    }
    return false;
  }

  py::array owner_;
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

}  // namespace infalign::python
