// SPDX-License-Identifier: MIT
#include <infalign/adapters/npy.hpp>
#include <infalign/calibration/calibrate.hpp>

#include "catch.hpp"
#include "files.hpp"

#include <sys/resource.h>

#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <optional>
#include <random>
#include <string>
#include <vector>

using namespace infalign;
using namespace std::string_literals;
using Eigen::Index;
using std::filesystem::path;
using integers = Eigen::Array<std::int64_t, Eigen::Dynamic, 1>;

namespace {

/// The bytes of a file with this header, data and version.
std::string npy(const std::string& header, const std::string& data, char version = 1) {
  std::string length;
  for (int i = 0; i < (version == 1 ? 2 : 4); ++i) length += static_cast<char>(header.size() >> 8 * i & 255);
  return "\x93NUMPY"s + version + '\0' + length + header + data;
}

template <class Table>
matrix<typename Table::Scalar> all_rows(const Table& table) {
  matrix<typename Table::Scalar> result(table.rows(), table.rows() == 0 ? 0 : table.row(0).size());
  for (Index p = 0; p < table.rows(); ++p) result.row(p) = table.row(p);
  return result;
}

/// Equal in shape and in every bit.
template <class E>
bool same_bits(const E& a, const E& b) {
  return a.rows() == b.rows() && a.cols() == b.cols() &&
         (a.size() == 0 ||
          std::memcmp(a.data(), b.data(), static_cast<std::size_t>(a.size()) * sizeof(typename E::Scalar)) == 0);
}

/// A header of version 1 with NumPy's padding: the data starts at byte 128.
std::string padded(const std::string& text) {
  return text + std::string(117 - text.size(), ' ') + "\n";
}

// {1, 2, −0.5; +inf, 0, −1} and {1, −2} as NumPy writes them.
const std::string float_header = padded("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }");
const std::string float_data =
    "\x00\x00\x80\x3f\x00\x00\x00\x40\x00\x00\x00\xbf\x00\x00\x80\x7f\x00\x00\x00\x00\x00\x00\x80\xbf"s;
const std::string float_file = "\x93NUMPY\x01\x00\x76\x00"s + float_header + float_data;
const std::string double_header = padded("{'descr': '<f8', 'fortran_order': False, 'shape': (2, 1), }");
const std::string double_data = "\x00\x00\x00\x00\x00\x00\xf0\x3f\x00\x00\x00\x00\x00\x00\x00\xc0"s;
const std::string double_file = "\x93NUMPY\x01\x00\x76\x00"s + double_header + double_data;

const matrix<float> float_values{{1, 2, -0.5f}, {std::numeric_limits<float>::infinity(), 0, -1}};
const matrix<double> double_values{{1}, {-2}};

}  // namespace

TEST_CASE("Files of every version and type are read without a change, byte by byte") {
  const temporary_folder folder;
  // Versions 2 and 3 have four bytes for the header's length: with two spaces fewer, the data starts at byte 128 too.
  const auto later = [](char version, const std::string& header, const std::string& data) {
    return "\x93NUMPY"s + version + "\x00\x74\x00\x00\x00"s + header.substr(0, 115) + "\n" + data;
  };
  for (const auto& file : {float_file, later(2, float_header, float_data), later(3, float_header, float_data)}) {
    REQUIRE(file.size() == 128 + 24);
    const npy_table<float> table(put(folder / "float.npy", file));
    CHECK(same_bits(all_rows(table), float_values));
  }
  for (const auto& file : {double_file, later(2, double_header, double_data), later(3, double_header, double_data)}) {
    REQUIRE(file.size() == 128 + 16);
    const npy_table<double> table(put(folder / "double.npy", file));
    CHECK(same_bits(all_rows(table), double_values));
  }
  const auto offsets = npy("{'descr': '<i8', 'fortran_order': False, 'shape': (2,), }    \n"s,
                           "\x01\x00\x00\x00\x00\x00\x00\x00\xfe\xff\xff\xff\xff\xff\xff\xff"s);
  const npy_array<std::int64_t> read(put(folder / "offsets.npy", offsets));
  CHECK(read.size() == 2);
  CHECK(read.view()[0] == 1);
  CHECK(read.view()[1] == -2);
  CHECK(read.data() == read.view().data());
}

TEST_CASE("Fortran order is read if the order does not matter") {
  const temporary_folder folder;
  const auto file = [&](const std::string& shape) {
    return put(folder / "file.npy",
               npy(padded("{'descr': '<f4', 'fortran_order': True, 'shape': " + shape + ", }"), float_data));
  };
  const matrix<float> row = float_values.reshaped<Eigen::RowMajor>(1, 6);
  CHECK(same_bits(all_rows(npy_table<float>(file("(1, 6)"))), row));
  CHECK(same_bits(all_rows(npy_table<float>(file("(6, 1)"))), matrix<float>(row.transpose())));
  CHECK(same_bits<array<float>>(npy_array<float>(file("(6,)")).view(), row.transpose()));
  CHECK(error_of([&] { npy_table<float>{file("(2, 3)")}; }) ==
        "npy_table: expected row-major data, got Fortran order in " + (folder / "file.npy").string());
}

TEST_CASE("An invalid file is rejected, and the error has the function's name and its type") {
  const temporary_folder folder;
  const auto file = put(folder / "file.npy", float_file);
  CHECK(error_of([&] { npy_table<double>{file}; }) == "npy_table: expected dtype '<f8', got '<f4' in " + file.string());
  CHECK(error_of([&] { npy_array<std::int64_t>{file}; }) ==
        "npy_array: expected dtype '<i8', got '<f4' in " + file.string());
  CHECK(error_of([&] { npy_array<float>{file}; }) ==
        "npy_array: expected 1-dimensional data, got 2-dimensional in " + file.string());
  CHECK(error_of([&] { npy_table<float>{folder.name}; }) ==
        "npy_table: expected a regular file, got a folder or a device in " + folder.name.string());
  const auto none = folder / "none.npy";
  CHECK(error_of([&] { npy_table<float>{none}; }) ==
        "another exception: npy_table: could not open " + none.string() + ": No such file or directory");
  CHECK_THROWS_AS(npy_array<double>(none), std::runtime_error);
}

TEST_CASE("A truncated file and a file with more bytes are rejected") {
  const temporary_folder folder;
  const auto file = folder / "file.npy";
  const auto error = [&]<class S>(S, const std::string& bytes) {
    put(file, bytes);
    return error_of([&] { npy_table<S>{file}; });
  };
  const auto check = [&](auto scalar, const std::string& whole) {
    CHECK(error(scalar, whole) == "no error");
    for (std::size_t size = 0; size < whole.size(); ++size)
      if (!error(scalar, whole.substr(0, size)).starts_with("npy_table: expected ")) FAIL("truncated to " << size);
    for (const char more : {'\0', '\n', ' ', '\x7f'})
      CHECK(error(scalar, whole + more).starts_with("npy_table: expected the end after "));
  };
  check(0.0f, float_file);
  check(0.0, double_file);
  check(0.0f, npy(float_header.substr(0, 115) + "\n", float_data, 2));
  check(0.0, npy(double_header.substr(0, 115) + "\n", double_data, 3));
}

TEST_CASE("write_npy writes the same bytes as NumPy") {
  const temporary_folder folder;
  const auto written = [&](const auto& values) {
    write_npy(folder / "file.npy", values);
    return bytes_of(folder / "file.npy");
  };
  CHECK(written(float_values) == float_file);
  CHECK(written(double_values) == double_file);
  const auto flat = [](const std::string& dtype, const std::string& size) {
    const auto header = "{'descr': '" + dtype + "', 'fortran_order': False, 'shape': (" + size + ",), }";
    return "\x93NUMPY\x01\x00\x76\x00"s + padded(header);
  };
  CHECK(written(array<double>(double_values.col(0))) == flat("<f8", "2") + double_data);
  CHECK(written(array<double>(double_values.col(0)).transpose()) == flat("<f8", "2") + double_data);
  CHECK(written(float_values.row(0)) == flat("<f4", "3") + float_data.substr(0, 12));
  CHECK(written(integers{{1, -2}}) ==
        flat("<i8", "2") + "\x01\x00\x00\x00\x00\x00\x00\x00\xfe\xff\xff\xff\xff\xff\xff\xff"s);
  CHECK(written(integers()) == flat("<i8", "0"));
  CHECK(folder.files() == std::vector<std::string>{"file.npy"});
}

TEMPLATE_TEST_CASE("A file that was written is read again, bit by bit", "", float, double) {
  using S = TestType;
  const temporary_folder folder;
  const auto file = folder / "file.npy";
  const auto same_again = [&](const auto& values) {
    write_npy(file, values);
    const npy_table<S> table(file);
    const matrix<S> expected = detail::as_array(values);
    CHECK(table.rows() == expected.rows());
    CHECK(same_bits(all_rows(table), expected));
  };
  matrix<S> values = matrix<S>::Random(5, 7);
  values(0, 0) = detail::nan<S>;
  values(1, 1) = -std::numeric_limits<S>::infinity();
  values(2, 2) = -S{0};
  values(3, 3) = std::numeric_limits<S>::denorm_min();
  const Eigen::Array<S, Eigen::Dynamic, Eigen::Dynamic> by_columns = values;
  same_again(values);
  same_again(values.matrix());
  same_again(by_columns);
  same_again(by_columns.matrix());
  same_again(values.transpose());
  same_again(by_columns.transpose());
  same_again(values.block(1, 2, 3, 4));
  same_again(values.middleRows(1, 2));
  same_again(values.middleCols(6, 1));
  same_again(by_columns.block(1, 2, 3, 4));
  same_again(values.bottomRightCorner(4, 6) + S{1});
  same_again(Eigen::Map<const matrix<S>, 0, Eigen::OuterStride<>>(values.data(), 2, 3, Eigen::OuterStride<>(14)));
  same_again(Eigen::Array<S, 2, 2>(values.template topLeftCorner<2, 2>()));
  same_again(matrix<S>(values.topRows(1)));
  write_npy(file, matrix<S>(0, 7));
  CHECK(npy_table<S>(file).rows() == 0);
  write_npy(file, matrix<S>(5, 0));
  CHECK(npy_table<S>(file).rows() == 5);
  CHECK(npy_table<S>(file).row(4).size() == 0);

  const array<S> column = values.col(3);
  write_npy(file, values.col(3));  // a column by type, but not contiguous
  CHECK(same_bits<array<S>>(npy_array<S>(file).view(), column));
  write_npy(file, array<S>());
  CHECK(npy_array<S>(file).size() == 0);
}

TEST_CASE("Rows that are not next to each other are written whole, however many and however long") {
  const temporary_folder folder;
  const matrix<float> values = matrix<float>::Random(300, 4'000);
  for (const auto& [rows, columns] : {std::pair<Index, Index>{300, 1}, {300, 1'000}, {7, 3'999}, {1, 2}}) {
    const auto block = values.block(0, 1, rows, columns);
    write_npy(folder / "file.npy", block);
    CHECK(same_bits(all_rows(npy_table<float>(folder / "file.npy")), matrix<float>(block)));
  }
}

TEST_CASE("A calibration rejects an empty row") {
  const temporary_folder folder;
  write_npy(folder / "file.npy", matrix<float>(5, 0));
  const npy_table<float> table(folder / "file.npy");
  CHECK(error_of([&] { calibrate(table, std::vector{2}, array<float>{{1}}); }) ==
        "calibrate: expected at least one reference reward for each prompt, got none at row 2");
}

TEST_CASE("Several files are one table") {
  const temporary_folder folder;
  const std::vector<matrix<float>> values{matrix<float>::Random(3, 4), matrix<float>(0, 4), matrix<float>::Random(1, 9),
                                          matrix<float>::Random(2, 4), matrix<float>(0, 2)};
  std::vector<path> files;
  for (const auto& one : values) write_npy(files.emplace_back(folder / ("part" + std::to_string(files.size()))), one);

  const auto check = [&](const npy_table<float>& table, std::size_t parts) {
    Index p = 0;
    for (std::size_t i = 0; i < parts; ++i)
      for (Index r = 0; r < values[i].rows(); ++r, ++p)
        CHECK(same_bits<array<float>>(table.row(p), values[i].row(r).transpose()));
    CHECK(table.rows() == p);
  };
  check(npy_table<float>(files), 5);
  check(npy_table<float>(std::vector<path>{}), 0);
  check(npy_table<float>(std::vector<path>{files[0]}), 1);
  npy_table<float> grown(files[0]);
  for (std::size_t i = 1; i < files.size(); ++i) {
    const auto before = grown;
    grown.append(files[i]);
    check(before, i);
    check(grown, i + 1);
  }

  // A rejected file changes nothing.
  put(folder / "bad", "no such file");
  CHECK_THROWS_AS(grown.append(folder / "bad"), std::invalid_argument);
  CHECK_THROWS_AS(grown.append(folder / "none"), std::runtime_error);
  check(grown, 5);
  files.push_back(folder / "bad");
  CHECK(error_of([&] { npy_table<float>{files}; }) ==
        "npy_table: expected a .npy file, got other first bytes in " + files.back().string());
}

TEST_CASE("Rows without columns need no bytes, so that a small file can have too many") {
  const temporary_folder folder;
  // As many as four files together just do not exceed.
  const bool wide = sizeof(Eigen::Index) == 8;
  const std::string rows = wide ? "2000000000000000000" : "500000000";
  put(folder / "many", npy(padded("{'descr': '<f4', 'fortran_order': False, 'shape': (" + rows + ", 0)}"), ""));
  npy_table<float> many(std::vector<path>(4, folder / "many"));
  const auto all = static_cast<Eigen::Index>(4 * std::stoll(rows));
  CHECK(many.row(all - 1).size() == 0);
  CHECK(error_of([&] { many.append(folder / "many"); }) ==
        std::string("npy_table: expected at most ") + (wide ? "1223372036854775807" : "147483647") + " rows, got " +
            rows + " in " + (folder / "many").string());
  CHECK(many.rows() == all);
}

TEST_CASE("Copies share a mapping, which outlives the first table and its file") {
  const temporary_folder folder;
  const auto file = folder / "file.npy";
  write_npy(file, float_values);
  std::optional<npy_table<float>> table(file);
  const auto copy = *table;
  const auto shape = calibration{*table};
  CHECK(copy.row(1).data() == table->row(1).data());
  table.reset();
  const matrix<float> others = float_values + 1;
  write_npy(file, others);
  CHECK(same_bits(all_rows(copy), float_values));
  CHECK(same_bits(all_rows(npy_table<float>(file)), others));
  std::filesystem::remove(file);
  CHECK(same_bits(all_rows(copy), float_values));
  CHECK(same_bits(shape(float_values), calibrate(float_values, float_values)));

  write_npy(file, array<float>(float_values.row(0)));
  std::optional<npy_array<float>> numbers(file);
  const auto rest = *numbers;
  numbers.reset();
  CHECK(same_bits<array<float>>(rest.view(), float_values.row(0).transpose()));
}

TEST_CASE("A write that fails throws, and leaves the old file unchanged") {
  const temporary_folder folder;
  const auto none = folder / "none" / "file.npy";
  CHECK(error_of([&] { write_npy(none, float_values); }) ==
        "another exception: write_npy: could not open the folder of " + none.string() + ": No such file or directory");
  const auto file = folder / "file.npy";
  write_npy(file, float_values);
  rlimit limit;
  ::getrlimit(RLIMIT_FSIZE, &limit);
  const auto before = limit;
  limit.rlim_cur = 1000;  // the disk is full, as far as this process can see, after 1000 bytes
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  ::setrlimit(RLIMIT_FSIZE, &limit);
  const auto full = error_of([&] { write_npy(file, matrix<float>(matrix<float>::Random(20, 20))); });
  ::setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, handler);
  CHECK(full == "another exception: write_npy: could not write " + file.string() + ": File too large");
  CHECK(bytes_of(file) == float_file);
  CHECK(folder.files() == std::vector<std::string>{"file.npy"});
}

TEMPLATE_TEST_CASE("A table in files gives the same calibrated rewards as the matrix", "", float, double) {
  using S = TestType;
  const temporary_folder folder;
  const matrix<S> reference = (matrix<S>::Random(50, 16) * S{8}).round();  // with ties
  const matrix<S> rewards = (matrix<S>::Random(50, 4) * S{8}).round();
  std::vector<int> prompt;
  for (int i = 0; i < 200; ++i) prompt.push_back(i * 7 % 50);
  const array<S> flat = rewards.reshaped();
  write_npy(folder / "all", reference);
  write_npy(folder / "top", reference.topRows(20));
  write_npy(folder / "bottom", reference.bottomRows(30));

  STATIC_REQUIRE(reference_table<npy_table<S>>);
  const npy_table<S> table(folder / "all");
  for (const auto& one : {table, npy_table<S>(std::vector<path>{folder / "top", folder / "bottom"})}) {
    CHECK(same_bits(calibrate(one, rewards), calibrate(reference, rewards)));
    CHECK(same_bits(calibrate(one, prompt, flat, add_one_rank{}), calibrate(reference, prompt, flat, add_one_rank{})));
    const calibration shape{one};
    STATIC_REQUIRE(std::is_same_v<decltype(shape), const calibration<npy_table<S>>>);
    CHECK(same_bits(shape(prompt, flat), calibrate(reference, prompt, flat)));
  }
}

TEST_CASE("Two mapped arrays make a ragged table without a copy") {
  const temporary_folder folder;
  write_npy(folder / "values", array<float>{{3, 1, 2, 7}});
  write_npy(folder / "offsets", integers{{0, 3, 3, 4}});
  const npy_array<float> values(folder / "values");
  const npy_array<std::int64_t> offsets(folder / "offsets");
  const ragged table(values.view(), offsets.view());
  STATIC_REQUIRE(reference_table<std::remove_const_t<decltype(table)>>);
  CHECK(table.rows() == 3);
  CHECK(table.row(0).data() == values.data());
  CHECK(table.row(2).data() == values.data() + 3);
  CHECK(table.row(1).size() == 0);
  const calibration shape{table};
  CHECK(shape(std::vector{0, 2, 0}, array<float>{{2, 9, 0}}).isApprox(array<float>{{0.5f, 1, 0}}));
}

TEST_CASE("A table of half a gigabyte is opened at once, and only the rows in use need memory") {
  const temporary_folder folder;
  const auto file = folder / "large.npy";
  constexpr Index prompts = 1'000'000, columns = 128;
  // A file of zeros, which needs no space on the disk.
  put(file, npy(padded("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000, 128), }"), ""));
  std::filesystem::resize_file(file, 128 + prompts * columns * sizeof(float));

  const auto peak = [] {
    rusage usage;
    ::getrusage(RUSAGE_SELF, &usage);
    return usage.ru_maxrss / 1024;  // MiB, as Linux counts it
  };
  const auto peak_before = peak();
  const auto begin = std::chrono::steady_clock::now();
  const npy_table<float> table(file);
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
  CHECK(table.rows() == prompts);

  std::mt19937 random(1);
  std::vector<Index> prompt;
  for (int i = 0; i < 512; ++i) prompt.insert(prompt.end(), 8, static_cast<Index>(random() % prompts));
  prompt.back() = prompts - 1;
  const calibration shape{table};
  const auto u = shape(prompt, array<float>::Zero(512 * 8));
  CHECK((u == 0.5f).all());
  const auto risen = peak() - peak_before;
  INFO("opened in " << seconds.count() << " s; peak memory rose by " << risen << " MiB");
  CHECK(seconds.count() < 0.1);
  CHECK(risen < 64);
}

TEST_CASE("Files are exchanged with NumPy") {
  const char* const name = std::getenv("INFALIGN_NPY_FOLDER");
  if (name == nullptr) {
    WARN("not tested: INFALIGN_NPY_FOLDER is not a folder of tests/adapters/npy_numpy.py");
    return;
  }
  const path folder = name;
  const auto exchange = [&]<class S>(S, const std::string& dtype) {
    const matrix<S> expected = array<S>::LinSpaced(12, -0.5f, 0.875f).template reshaped<Eigen::RowMajor>(3, 4);
    for (const char* const version : {"version1_", "version2_", "version3_"})
      CHECK(same_bits(all_rows(npy_table<S>(folder / (version + dtype))), expected));
    const npy_array<S> flat(folder / ("flat_" + dtype));
    CHECK(same_bits<array<S>>(flat.view(), expected.template reshaped<Eigen::RowMajor>()));
    write_npy(folder / ("infalign_matrix_" + dtype), expected);
    write_npy(folder / ("infalign_row_" + dtype), expected.row(1));
    write_npy(folder / ("infalign_empty_" + dtype), expected.topRows(0));
  };
  exchange(0.0f, "f4.npy");
  exchange(0.0, "f8.npy");
  const integers offsets{{0, 5, 5, 12}};
  CHECK(same_bits<integers>(npy_array<std::int64_t>(folder / "offsets.npy").view(), offsets));
  write_npy(folder / "infalign_offsets.npy", offsets);
  CHECK(npy_table<float>(folder / "no_rows.npy").rows() == 0);
  CHECK(npy_table<float>(folder / "no_columns.npy").rows() == 3);

  const auto error = [&](const char* file) {
    const auto text = error_of([&] { npy_table<float>{folder / file}; });
    return text.substr(0, text.find(" in " + folder.string()));
  };
  CHECK(npy_table<float>(folder / "fortran_row.npy").rows() == 1);
  CHECK(npy_table<float>(folder / "fortran_row.npy").row(0)[11] == 0.875f);
  CHECK(error("fortran.npy") == "npy_table: expected row-major data, got Fortran order");
  CHECK(error("big_endian.npy") == "npy_table: expected little-endian numbers, got '>f4'");
  CHECK(error("integers.npy") == "npy_table: expected dtype '<f4', got '<i8'");
  CHECK(error("half.npy") == "npy_table: expected dtype '<f4', got '<f2'");
  CHECK(error("structured.npy") == "npy_table: expected a dtype of plain numbers in the header, got [");
  CHECK(error("flat_f4.npy") == "npy_table: expected 2-dimensional data, got 1-dimensional");
  CHECK(error("cube.npy") == "npy_table: expected 2-dimensional data, got 3-dimensional");
}
