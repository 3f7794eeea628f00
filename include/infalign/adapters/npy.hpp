// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/calibration/reference.hpp>
#include <infalign/detail/npy_header.hpp>
#include <infalign/detail/replace_file.hpp>

#include <algorithm>
#include <bit>
#include <cstdint>
#include <limits>

#include <infalign/detail/begin.hpp>

/// \file
/// Reference rewards in NumPy's `.npy` files. A file is mapped into memory, not read: nothing is copied, only the rows
/// in use need memory, and processes that map one file share its pages.
///
///     write_npy("reference.npy", rewards);             // as numpy.save
///     npy_table<float> reference("reference.npy");     // as numpy.load(…, mmap_mode="r")
///     calibration shape{reference};                    // stores the mapping, not the rewards
///
/// Format: row-major, little-endian, versions 1.0, 2.0 and 3.0 of
/// https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
///
/// Errors: `std::invalid_argument` if a file is incomplete or has another content than expected; `std::runtime_error`
/// "function: could not ACTION FILE: REASON" if the operating system reports an error.
///
/// Needs POSIX; infalign.hpp does not include it. Never overwrite or truncate a mapped file: its readers would see the
/// change, or be killed by SIGBUS. Replace the file, as `write_npy` does: its mappings then still show the old content.
namespace INFALIGN_NAMESPACE {

static_assert(std::endian::native == std::endian::little, "infalign/adapters/npy.hpp reads little-endian numbers");

/// The scalar types of files: rewards, or the offsets of a `ragged` table.
template <class T>
concept npy_scalar = real_scalar<T> || std::same_as<T, std::int64_t>;

namespace detail {

/// The numbers of a mapped file, and their shape.
template <npy_scalar T>
struct npy_content {
  std::shared_ptr<const T> data;
  npy_data shape;
};

template <npy_scalar T>
npy_content<T> open_npy(const file_task& task, std::size_t dimensions) {
  const auto file = map_file(task);
  const auto found = find_npy_data(task, file.bytes(), npy_dtype<T>, sizeof(T), dimensions);
  return {{file.start, reinterpret_cast<const T*>(file.start.get() + found.offset)}, found};
}

}  // namespace detail

/// A one-dimensional `.npy` file of float, double or 64-bit integers. Opening it reads only the header. Copies share
/// the mapping, which ends with the last copy; views must not outlive it.
///
///     npy_array<float> values("values.npy");
///     npy_array<std::int64_t> offsets("offsets.npy");
///     ragged table(values.view(), offsets.view());     // rows of different lengths, not copied
template <npy_scalar T>
class npy_array {
 public:
  /// Maps a file.
  explicit npy_array(const std::filesystem::path& file) : content_(detail::open_npy<T>({"npy_array", file}, 1)) {}

  /// The number of values.
  Eigen::Index size() const { return content_.shape.rows; }
  /// The first value.
  const T* data() const INFALIGN_LIFETIMEBOUND { return content_.data.get(); }
  /// All values, as an Eigen column.
  Eigen::Map<const Eigen::Array<T, Eigen::Dynamic, 1>> view() const INFALIGN_LIFETIMEBOUND { return {data(), size()}; }

 private:
  detail::npy_content<T> content_;
};

/// A `reference_table` in one or more two-dimensional `.npy` files: the rows of each file follow those of the file
/// before. Opening a file reads only its header. Copies share the mappings.
///
///     npy_table<float> shards(std::vector<std::filesystem::path>{"shard0.npy", "shard1.npy"});
///
/// Shapes: each file P × K, with its own P and K, which may be 0. (A calibration rejects rows of length 0.)
/// Errors: if a dtype is not S, because nothing is converted.
template <real_scalar S>
class npy_table {
 public:
  /// The scalar type of the rewards.
  using Scalar = S;

  /// Maps one file.
  explicit npy_table(const std::filesystem::path& file) { append(file); }
  /// Maps several files, in this order.
  explicit npy_table(const std::vector<std::filesystem::path>& files) {
    for (const auto& file : files) append(file);
  }

  /// Adds the rows of one more file. If it throws, the table is unchanged.
  void append(const std::filesystem::path& file) {
    const detail::file_task task{"npy_table", file};
    const auto content = detail::open_npy<S>(task, 2);
    const auto room = std::numeric_limits<Eigen::Index>::max() - rows_;  // rows of length 0 can be that many
    const auto more = content.shape.rows;
    if (more > room) task.reject(detail::concat("at most ", room, " rows"), detail::concat(more));
    parts_.push_back({content, rows_});
    rows_ += more;
  }

  /// The number of rows in all files.
  Eigen::Index rows() const { return rows_; }

  /// The rewards of prompt p, 0 ≤ p < rows(), which is checked in debug builds only.
  Eigen::Map<const array<S>> row(Eigen::Index p) const INFALIGN_LIFETIMEBOUND {
    eigen_assert(p >= 0 && p < rows());
    // The last part whose first row is at most p. (A part without rows has the same first row as the next part.)
    const auto after = std::upper_bound(parts_.begin() + 1, parts_.end(), p,
                                        [](Eigen::Index row, const part& one) { return row < one.first; });
    const auto& [content, first] = after[-1];
    return {content.data.get() + (p - first) * content.shape.columns, content.shape.columns};
  }

 private:
  struct part {
    detail::npy_content<S> content;
    Eigen::Index first;
  };
  std::vector<part> parts_;
  Eigen::Index rows_ = 0;
};

/// Writes an Eigen object of float, double or 64-bit integers as a `.npy` file: one-dimensional if its type is a row or
/// a column, else two-dimensional. Row-major values are not copied as a whole.
///
/// The file is written under another name, synced to the disk and renamed, so that a crash never leaves half a file. An
/// existing file is replaced; its mappings do not change. If the process is killed meanwhile, a file FILE.tmpPID.N is
/// left, which nothing reads: remove it.
///
/// Errors: if it throws, the temporary file is removed and an existing file is unchanged. (Only if the last step fails,
/// the sync of the folder, the new file is in place.)
template <class E>
requires npy_scalar<typename E::Scalar>
void write_npy(const std::filesystem::path& file, const E& values) {
  using detail::concat;
  using T = typename E::Scalar;
  using plain = Eigen::Array<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  const Eigen::Ref<const plain, 0, Eigen::OuterStride<>> rows(detail::as_array(values));
  const auto shape = E::IsVectorAtCompileTime ? concat(values.size(), ",") : concat(values.rows(), ", ", values.cols());

  detail::file_replacement out({"write_npy", file});
  out.append(detail::npy_preamble(detail::npy_dtype<T>, shape));
  const Eigen::Index step = rows.outerStride() == rows.cols() ? rows.rows() : 1;  // all rows at once, or one by one
  for (Eigen::Index p = 0; p < rows.rows(); p += step)
    out.append({reinterpret_cast<const char*>(rows.data() + p * rows.outerStride()),
                static_cast<std::size_t>(step * rows.cols()) * sizeof(T)});
  out.commit();
}

}  // namespace INFALIGN_NAMESPACE

#include <infalign/detail/end.hpp>
