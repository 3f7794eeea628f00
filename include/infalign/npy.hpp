// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#if !__has_include(<sys/mman.h>)
#error "infalign/npy.hpp maps files into memory, and needs a POSIX system"
#endif

#include <infalign/reference.hpp>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string_view>
#include <system_error>
#include <vector>

/// Reference rewards in NumPy's `.npy` files, read where they lie: a file is mapped into memory, nothing is copied, and
/// only the rows in use need be resident. Processes that map the same file share its pages.
///
///     write_npy("reference.npy", rewards);             // as numpy.save would
///     npy_table<float> reference("reference.npy");     // as numpy.load(…, mmap_mode="r") would
///     calibration shape{reference};                    // holds the mapping, not the rewards
///
/// Format: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html, versions 1.0, 2.0 and 3.0, row-major
/// and little-endian. Needs POSIX, and is included by its own name only.
///
/// Errors: `std::invalid_argument` for a file that holds something else than was asked for, or is not whole;
/// `std::runtime_error` "function: could not ACTION FILE: REASON" where the operating system refuses.
///
/// A mapped file must not be written to or cut short: its readers would see the change, or be killed by SIGBUS. Replace
/// it, as `write_npy` does: a mapping keeps the file that it was made from.
namespace infalign {

static_assert(std::endian::native == std::endian::little, "infalign/npy.hpp reads little-endian numbers in place");

/// What a file may hold: rewards, or the offsets of a `ragged` table.
template <class T>
concept npy_scalar = real_scalar<T> || std::same_as<T, std::int64_t>;

namespace detail {

inline constexpr std::string_view npy_magic = "\x93NUMPY";

/// The type's name in a file.
template <npy_scalar T>
inline constexpr const char* npy_dtype = std::integral<T> ? "<i8"
                                         : sizeof(T) == 4 ? "<f4"
                                                          : "<f8";

/// Which function works on which file, for its errors.
struct file_task {
  const char* function;
  const std::filesystem::path& file;

  [[noreturn]] void refuse(const std::string& expected, const std::string& got) const {
    fail(function, expected, text(got, " in ", file.string()));
  }
  /// For a system call that has just set errno.
  [[noreturn]] void fail_system(const char* action) const {
    const auto reason = std::generic_category().message(errno);
    throw std::runtime_error(text(function, ": could not ", action, " ", file.string(), ": ", reason));
  }
};

/// A file descriptor, closed at the end of its scope. (To close −1 does nothing.)
struct descriptor {
  const int number;
  ~descriptor() { ::close(number); }
};

/// The result of a system call, made again as long as a signal interrupts it.
template <class Call>
auto uninterrupted(Call call) {
  auto result = call();
  while (result == -1 && errno == EINTR) result = call();
  return result;
}

/// Reads the text of a header, a Python dict: {'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }
class npy_header {
 public:
  std::string_view dtype;
  bool fortran_order = false;
  std::vector<Eigen::Index> shape;

  npy_header(std::string_view header, const file_task& task) : rest_(header), task_(task) {
    for (const char c : header)  // so that errors can quote it, too
      if (c != '\t' && (c < ' ' || c > '~'))
        task.refuse("a header in printable ASCII", text("byte ", int{static_cast<unsigned char>(c)}));
    advance();
    take(token_ == "{", "'{'");
    std::vector<std::string_view> keys;
    while (token_ != "}") {
      const auto key = keys.emplace_back(string("a key"));
      if (std::count(keys.begin(), keys.end(), key) > 1) task.refuse("each key once", text("'", key, "' twice"));
      take(token_ == ":", "':'");
      if (key == "descr")
        dtype = string("a dtype of plain numbers");
      else if (key == "fortran_order")
        fortran_order = take(token_ == "True" || token_ == "False", "True or False") == "True";
      else if (key == "shape")
        read_shape();
      else
        task.refuse("the keys descr, fortran_order and shape", text("'", key, "'"));
      if (token_ != "}") take(token_ == ",", "',' or '}'");
    }
    advance();
    take(token_.empty(), "nothing after '}'");
    if (keys.size() < 3) task.refuse("the keys descr, fortran_order and shape", text("only ", keys.size()));
  }

 private:
  /// Goes to the next token: a string with its quotes, a mark, or what is between these; empty at the end.
  void advance() {
    rest_.remove_prefix(std::min(rest_.find_first_not_of(" \t"), rest_.size()));
    auto length = rest_.find_first_of("{}()[]:,'\" \t");
    if (length == 0) length = 1 + (is_quote(rest_[0]) ? std::min(rest_.find(rest_[0], 1), rest_.size() - 1) : 0);
    token_ = rest_.substr(0, length);
    rest_.remove_prefix(token_.size());
  }

  /// Hands out this token and goes to the next, or throws if this one is wrong.
  std::string_view take(bool right, const char* expected) {
    if (!right) task_.refuse(text(expected, " in the header"), token_.empty() ? "its end" : std::string(token_));
    const auto taken = token_;
    advance();
    return taken;
  }

  std::string_view string(const char* expected) {
    const auto quoted = take(token_.size() > 1 && is_quote(token_[0]) && token_.back() == token_[0], expected);
    return quoted.substr(1, quoted.size() - 2);
  }

  /// A tuple: (), (3,), (3, 4), … As in Python, (3) is none.
  void read_shape() {
    take(token_ == "(", "'('");
    while (token_ != ")") {
      const auto last = token_.data() + token_.size();
      const auto [end, error] = std::from_chars(token_.data(), last, shape.emplace_back());
      const bool plain = token_.size() < 2 || token_[0] > '0';  // no sign, no leading zero
      take(error == std::errc{} && end == last && plain, "sizes from 0 up to 63 bits");
      if (shape.size() == 1 || token_ != ")") take(token_ == ",", "','");
    }
    advance();
  }

  static bool is_quote(char c) { return c == '\'' || c == '"'; }

  std::string_view token_, rest_;
  const file_task& task_;
};

/// What a file holds, mapped until the last copy of `data` goes. (Of one dimension, `rows` is its size.)
template <npy_scalar T>
struct npy_content {
  std::shared_ptr<const T> data;
  Eigen::Index rows, columns;
};

/// Opens a file of one or two dimensions. Of its bytes, it reads the header only.
template <npy_scalar T>
npy_content<T> open_npy(const file_task& task, std::size_t dimensions) {
  constexpr int flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK;  // the last so as not to wait at a FIFO
  const descriptor opened{uninterrupted([&] { return ::open(task.file.c_str(), flags); })};
  struct stat status {};
  if (opened.number < 0 || ::fstat(opened.number, &status) != 0) task.fail_system("open");
  if (!S_ISREG(status.st_mode)) task.refuse("a regular file", "a folder or a device");
  if (status.st_size == 0) task.refuse("a .npy file", "no bytes");  // which cannot be mapped
  const auto size = static_cast<std::size_t>(status.st_size);
  void* const start = ::mmap(nullptr, size, PROT_READ, MAP_SHARED, opened.number, 0);
  if (start == MAP_FAILED) task.fail_system("map");
  const std::shared_ptr<const char> bytes(static_cast<const char*>(start),
                                          [start, size](const char*) { ::munmap(start, size); });
  const std::string_view file(bytes.get(), size);

  // The magic, major and minor version, the header's length (2 bytes in version 1, then 4), the header, the data.
  if (!file.starts_with(npy_magic)) task.refuse("a .npy file", "other first bytes");
  if (size < 12) task.refuse("a header", text("a file of ", size, " bytes"));
  const auto byte = [&](std::size_t i) { return std::size_t{static_cast<unsigned char>(file[i])}; };
  if (byte(6) < 1 || byte(6) > 3 || byte(7) != 0) task.refuse("version 1.0, 2.0 or 3.0", text(byte(6), ".", byte(7)));
  const std::size_t begin = byte(6) == 1 ? 10 : 12;
  std::size_t length = 0;
  for (std::size_t i = begin; i-- > 8;) length = length << 8 | byte(i);
  if (length > 10'000) task.refuse("a header of at most 10000 bytes", text(length));  // NumPy's own limit
  if (size - begin < length) task.refuse(text("a header of ", length, " bytes"), text("only ", size - begin));
  const std::size_t data = begin + length;
  if (file[data - 1] != '\n') task.refuse("a header that ends in a newline", "none");

  const npy_header header(file.substr(begin, length - 1), task);
  if (header.dtype.starts_with('>')) task.refuse("little-endian numbers", text("'", header.dtype, "'"));
  if (header.dtype != npy_dtype<T>) task.refuse(text("dtype '", npy_dtype<T>, "'"), text("'", header.dtype, "'"));
  if (header.fortran_order) task.refuse("row-major data", "Fortran order");
  if (header.shape.size() != dimensions)
    task.refuse(text(dimensions, "-dimensional data"), text(header.shape.size(), "-dimensional"));

  std::size_t needed = sizeof(T);
  for (const auto n : header.shape) {
    if (n > 0 && needed > PTRDIFF_MAX / static_cast<std::size_t>(n))
      task.refuse("sizes that memory can hold", "larger ones");
    needed *= static_cast<std::size_t>(n);
  }
  const std::size_t there = size - data;
  if (there < needed) task.refuse(text(needed, " bytes of data"), text("only ", there));
  if (there > needed) task.refuse(text("the end after ", needed, " bytes of data"), text(there - needed, " more"));
  if (data % sizeof(T) != 0) task.refuse(text("data at a multiple of ", sizeof(T), " bytes"), text("data at ", data));
  return {{bytes, reinterpret_cast<const T*>(bytes.get() + data)}, header.shape.front(), header.shape.back()};
}

/// Makes or replaces a file, of these pieces, by one rename of a complete one: whoever opens it, also after a crash,
/// finds the old bytes or the new ones.
inline void replace_file(const file_task& task, const std::vector<std::string_view>& pieces) {
  const descriptor folder{::open((task.file.parent_path() / ".").c_str(), O_RDONLY | O_CLOEXEC)};
  if (folder.number < 0) task.fail_system("open the folder of");
  std::string name;
  int number = -1;
  for (int attempt = 0; number < 0; ++attempt) {  // the name may be in use by another thread, or left by a crash
    name = text(task.file.string(), ".tmp", ::getpid(), ".", attempt);
    number = ::open(name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (number < 0 && errno != EEXIST && errno != EINTR) task.fail_system("create");
  }
  const descriptor file{number};
  try {
    for (auto rest : pieces)
      while (!rest.empty()) {
        const auto size = std::min(rest.size(), std::size_t{1} << 30);  // some systems take less than 2 GiB at once
        const auto written = uninterrupted([&] { return ::write(file.number, rest.data(), size); });
        if (written < 0) task.fail_system("write");
        rest.remove_prefix(static_cast<std::size_t>(written));
      }
    if (uninterrupted([&] { return ::fsync(file.number); }) != 0) task.fail_system("write");
    if (::rename(name.c_str(), task.file.c_str()) != 0) task.fail_system("replace");
  } catch (...) {
    ::unlink(name.c_str());
    throw;
  }
  const int synced = uninterrupted([&] { return ::fsync(folder.number); });
  if (synced != 0 && errno != EINVAL) task.fail_system("sync the folder of");  // EINVAL: this one cannot be
}

}  // namespace detail

/// A one-dimensional `.npy` file of float, double or 64-bit integers. Opening reads the header only. Copies share the
/// mapping, which ends with the last of them, and the views with it.
///
///     npy_array<float> values("values.npy");
///     npy_array<std::int64_t> offsets("offsets.npy");
///     ragged table(values.view(), offsets.view());     // rows of different lengths, not copied
template <npy_scalar T>
class npy_array {
 public:
  explicit npy_array(const std::filesystem::path& file) : content_(detail::open_npy<T>({"npy_array", file}, 1)) {}

  Eigen::Index size() const { return content_.rows; }
  const T* data() const { return content_.data.get(); }
  Eigen::Map<const Eigen::Array<T, Eigen::Dynamic, 1>> view() const { return {data(), size()}; }

 private:
  detail::npy_content<T> content_;
};

/// A `reference_table` in a two-dimensional `.npy` file, P × K, or in several, whose rows follow one another; each may
/// have its own K. Opening reads the headers only. Copies share the mappings.
///
///     npy_table<float> reference("reference.npy");
///     npy_table<float> shards(std::vector<std::filesystem::path>{"shard0.npy", "shard1.npy"});
///
/// The dtype must be S: nothing is converted. P = 0 and K = 0 are allowed here, and refused where calibrated against.
template <real_scalar S>
class npy_table {
 public:
  using Scalar = S;

  explicit npy_table(const std::filesystem::path& file) { append(file); }
  explicit npy_table(const std::vector<std::filesystem::path>& files) {
    for (const auto& file : files) append(file);
  }

  /// Adds the rows of one more file. Where it throws, the table is as it was.
  void append(const std::filesystem::path& file) {
    const detail::file_task task{"npy_table", file};
    const auto content = detail::open_npy<S>(task, 2);
    const auto room = std::numeric_limits<Eigen::Index>::max() - rows_;  // rows without columns can be that many
    if (content.rows > room) task.refuse(detail::text("at most ", room, " rows"), detail::text(content.rows));
    parts_.push_back({content, rows_});
    rows_ += content.rows;
  }

  Eigen::Index rows() const { return rows_; }

  /// p: from 0 to rows() − 1.
  Eigen::Map<const array<S>> row(Eigen::Index p) const {
    // The last part that begins at p or before. A part without rows begins where the next does, and is passed over.
    const auto after = std::upper_bound(parts_.begin() + 1, parts_.end(), p,
                                        [](Eigen::Index row, const part& one) { return row < one.first; });
    const auto& [content, first] = after[-1];
    return {content.data.get() + (p - first) * content.columns, content.columns};
  }

 private:
  struct part {
    detail::npy_content<S> content;
    Eigen::Index first;
  };
  std::vector<part> parts_;
  Eigen::Index rows_ = 0;
};

/// Writes an Eigen object of float, double or 64-bit integers as a `.npy` file: one-dimensional if it is a row or a
/// column by its type, else two-dimensional. Row-major values are not copied.
///
/// The file gets its name when all its bytes are on the disk: a crash never leaves half a file under that name. A file
/// that had the name is replaced; mappings of it stay as they are. Where it throws, it removes what it has made, unless
/// only the last step failed, to sync the folder.
template <class E>
requires npy_scalar<typename E::Scalar>
void write_npy(const std::filesystem::path& file, const E& values) {
  using detail::text;
  using T = typename E::Scalar;
  using plain = Eigen::Array<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  const Eigen::Ref<const plain, 0, Eigen::OuterStride<>> rows(detail::as_array(values));
  const auto shape = E::IsVectorAtCompileTime ? text(values.size(), ",") : text(values.rows(), ", ", values.cols());
  auto header = text("{'descr': '", detail::npy_dtype<T>, "', 'fortran_order': False, 'shape': (", shape, "), }");
  header.append(63 - (10 + header.size()) % 64, ' ').append("\n");  // the data starts at a multiple of 64 bytes
  const std::string version_and_length{1, 0, static_cast<char>(header.size()), 0};  // at most 118 bytes

  std::vector<std::string_view> pieces{detail::npy_magic, version_and_length, header};
  const Eigen::Index step = rows.outerStride() == rows.cols() ? rows.rows() : 1;  // all at once, or one by one
  for (Eigen::Index p = 0; p < rows.rows(); p += step)
    pieces.emplace_back(reinterpret_cast<const char*>(rows.data() + p * rows.outerStride()),
                        static_cast<std::size_t>(step * rows.cols()) * sizeof(T));
  detail::replace_file({"write_npy", file}, pieces);
}

}  // namespace infalign
