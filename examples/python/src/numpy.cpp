// SPDX-License-Identifier: MIT
#include "numpy.hpp"

namespace infalign::python {

unscored unscored_of(const std::string& name) {
  return with_name<unscored>("infalign", "unscored of \"error\" or \"propagate\"", {"error", "propagate"}, name);
}

bool is_single(py::handle numbers) {
  if (!py::isinstance<py::array>(numbers)) return false;
  const auto type = py::reinterpret_borrow<py::array>(numbers).dtype();
  return type.kind() == 'f' && type.itemsize() <= 4;
}

py::array to_array(const char* what, py::handle numbers) {
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

void check_kind(const char* what, const py::dtype& type) {
  const char kind = type.kind();
  if (kind != 'f' && kind != 'i' && kind != 'u' && kind != 'b')
    detail::fail("infalign", detail::concat(what, " of real numbers"),
                 "an array of " + std::string(py::str(py::reinterpret_borrow<py::object>(type))));
}

namespace {

/// True if a dtype is that of S, in the byte order of the machine.
template <real_scalar S>
bool is_native(const py::dtype& type) {
  constexpr int number = std::same_as<S, float> ? py::detail::npy_api::NPY_FLOAT_ : py::detail::npy_api::NPY_DOUBLE_;
  return type.num() == number && type.byteorder() == '=';
}

/// The flags of a copy: contiguous, converted, and aligned, which NumPy does not promise without being asked.
inline constexpr int copy_flags = py::array::c_style | py::array::forcecast | py::detail::npy_api::NPY_ARRAY_ALIGNED_;

/// True if the rows of a sequence have different lengths.
bool is_ragged(py::handle rows) {
  py::ssize_t length = -1;
  for (const py::handle row : rows) {
    if (!py::hasattr(row, "__len__")) return false;
    const auto n = static_cast<py::ssize_t>(py::len(row));
    if (length >= 0 && n != length) return true;
    length = n;
  }
  return false;
}

}  // namespace

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
  rows_in<S> result{{}, given};
  result.data = static_cast<const S*>(given.data());
  result.flat = flat;
  result.rows = flat ? 1 : given.shape(0);
  result.columns = given.shape(flat ? 0 : 1);
  result.stride = flat || result.rows <= 1 || given.size() == 0 ? result.columns : given.strides(0) / item;
  return result;
}

template rows_in<float> read_rows(const char*, py::handle);
template rows_in<double> read_rows(const char*, py::handle);

indices::indices(py::handle prompt) {
  auto given = to_array("prompt", prompt);
  if (given.ndim() != 1) detail::fail("infalign", "prompt of one dimension", detail::concat(given.ndim()));
  const auto type = given.dtype();
  const char kind = type.kind();
  if (given.size() > 0 && kind != 'i' && kind != 'u')
    detail::fail("infalign", "prompt indices that are integers",
                 "an array of " + std::string(py::str(py::reinterpret_borrow<py::object>(type))));
  const bool usable = kind == 'i' && type.itemsize() == 8 && type.byteorder() == '=' && given.size() > 0 &&
                      given.strides(0) == 8 && reinterpret_cast<std::uintptr_t>(given.data()) % 8 == 0;
  if (!usable) {
    given = py::array_t<std::int64_t, copy_flags>::ensure(given);
    if (!given) detail::fail("infalign", "prompt indices that NumPy can convert", "others");
  }
  view_ = {static_cast<const std::int64_t*>(given.data()), static_cast<std::size_t>(given.size())};
  owner_ = std::move(given);
}

template <real_scalar S>
table<S>::table(py::handle reference) {
  if (!py::isinstance<py::array>(reference) && py::isinstance<py::sequence>(reference) && is_ragged(reference)) {
    std::vector<S> values;
    auto offsets = std::make_shared<std::vector<Index>>(1, 0);
    for (const py::handle row : reference) {
      const auto one = read_rows<S>("reference", row);
      if (!one.flat) detail::fail("infalign", "rows of reference rewards that are lists of numbers", "lists of lists");
      values.insert(values.end(), one.data, one.data + one.columns);
      offsets->push_back(static_cast<Index>(values.size()));
    }
    const auto all = copied(Eigen::Map<const array<S>>(values.data(), static_cast<Index>(values.size())));
    data_ = all.data();
    owner_ = all;
    rows_ = static_cast<Index>(offsets->size()) - 1;
    offsets_ = std::move(offsets);
    return;
  }
  const auto rows = read_rows<S>("reference", reference);
  if (rows.flat) detail::fail("infalign", "a reference of two dimensions, with a row for each prompt", "one dimension");
  owner_ = rows.owner, data_ = rows.data, rows_ = rows.rows, columns_ = rows.columns, stride_ = rows.stride;
}

template class table<float>;
template class table<double>;

}  // namespace infalign::python
