// SPDX-License-Identifier: MIT
#include "catch.hpp"

#include <infalign/calibration.hpp>
#include <infalign/npy.hpp>

#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <array>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
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

/// An empty folder, removed at the end of its scope.
struct temporary_folder {
  path name;
  temporary_folder() {
    auto pattern = (std::filesystem::temp_directory_path() / "infalign_npy_XXXXXX").string();
    REQUIRE(::mkdtemp(pattern.data()) != nullptr);
    name = pattern;
  }
  ~temporary_folder() { std::filesystem::remove_all(name); }
  path operator/(const path& file) const { return name / file; }
  std::vector<std::string> files() const {
    std::vector<std::string> result;
    for (const auto& entry : std::filesystem::directory_iterator(name)) result.push_back(entry.path().filename());
    return result;
  }
};

path put(const path& file, const std::string& bytes) {
  std::filesystem::remove(file);  // much faster than to overwrite it, where a file system then waits for the disk
  std::ofstream(file, std::ios::binary) << bytes;
  return file;
}

std::string bytes_of(const path& file) {
  std::ifstream stream(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

/// The bytes of a file with this header, of whatever version and data.
std::string npy(const std::string& header, const std::string& data = std::string(24, '\0'), char version = 1) {
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

/// A header of version 1 as NumPy ends it: the data starts at byte 128.
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

TEST_CASE("Files of every version and type are read as they lie, byte by byte") {
  const temporary_folder folder;
  // Versions 2 and 3 count the header's length in four bytes: two spaces fewer keep the data where it is.
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

TEST_CASE("A header may be spelled in any way that a Python dict may") {
  const temporary_folder folder;
  for (const auto header : {
           "{'descr':'<f4','fortran_order':False,'shape':(2,3)}",
           "{\"shape\": (2, 3,), \"descr\": \"<f4\", \"fortran_order\": False}",
           "  { 'fortran_order' :False ,'shape'\t:\t( 2 ,3 , ) , \"descr\": '<f4' , }  ",
           "{'shape': (2, 3), 'fortran_order': False, 'descr': '<f4', }",
       }) {
    const npy_table<float> table(put(folder / "file.npy", npy(padded(header), float_data)));
    CHECK(same_bits(all_rows(table), float_values));
  }
  // As long as a header may be.
  const auto longest = float_header.substr(0, 117) + std::string(10'000 - 118, ' ') + "\n";
  CHECK(npy_table<float>(put(folder / "file.npy", npy(longest, float_data, 2))).rows() == 2);
}

TEST_CASE("What is not such a file is refused, and the error says why and where") {
  const temporary_folder folder;
  const auto file = folder / "file.npy";
  const auto refused = [&](const std::string& bytes, const std::string& expected, const std::string& got) {
    put(file, bytes);
    CHECK(error_of([&] { npy_table<float>{file}; }) ==
          "npy_table: expected " + expected + ", got " + got + " in " + file.string());
  };
  const auto descriptors = [] {
    const path open_files = "/proc/self/fd";  // where there is one
    if (!std::filesystem::exists(open_files)) return std::ptrdiff_t{0};
    return std::distance(std::filesystem::directory_iterator(open_files), {});
  };
  const auto open_before = descriptors();

  refused("", "a .npy file", "no bytes");
  refused("\x93NUMPX"s + float_file.substr(6), "a .npy file", "other first bytes");
  refused("PK\x03\x04 a .npz file", "a .npy file", "other first bytes");
  refused(float_file.substr(0, 11), "a header", "a file of 11 bytes");
  refused(npy(float_header, float_data, 0), "version 1.0, 2.0 or 3.0", "0.0");
  refused(npy(float_header, float_data, 4), "version 1.0, 2.0 or 3.0", "4.0");
  refused("\x93NUMPY\x01\x01"s + float_file.substr(8), "version 1.0, 2.0 or 3.0", "1.1");
  refused(float_file.substr(0, 100), "a header of 118 bytes", "only 90");
  refused(npy(std::string(10'001, ' ')), "a header of at most 10000 bytes", "10001");
  refused("\x93NUMPY\x02\x00\xff\xff\xff\xff"s + float_header, "a header of at most 10000 bytes", "4294967295");
  refused(npy(""), "a header that ends in a newline", "none");
  refused(npy(float_header.substr(0, 117) + " "), "a header that ends in a newline", "none");

  // The text of the header.
  const auto text_refused = [&](const std::string& text, const std::string& expected, const std::string& got) {
    refused(npy(text + "\n"), expected, got);
  };
  const auto keys = "the keys descr, fortran_order and shape"s;
  text_refused("", "'{' in the header", "its end");
  text_refused("[1]", "'{' in the header", "[");
  text_refused("{}", keys, "only 0");
  text_refused("{'descr': '<f4', 'shape': (2, 3)}", keys, "only 2");
  text_refused("{'descr': '<f4', 'fortran_order': False, 'sizes': (2, 3)}", keys, "'sizes'");
  text_refused("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), 'x': 1}", keys, "'x'");
  text_refused("{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (2, 3)}", "each key once",
               "'descr' twice");
  text_refused("{descr: '<f4'}", "a key in the header", "descr");
  text_refused("{'descr' '<f4'}", "':' in the header", "'<f4'");
  text_refused("{'descr': '<f4' 'shape': (2, 3)}", "',' or '}' in the header", "'shape'");
  text_refused("{'descr': '<f4',, 'shape': (2, 3)}", "a key in the header", ",");
  text_refused("{'descr': '<f4", "a dtype of plain numbers in the header", "'<f4");
  text_refused("{'", "a key in the header", "'");
  text_refused("{'descr'", "':' in the header", "its end");
  text_refused("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3)", "',' or '}' in the header", "its end");
  text_refused("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3)} x", "nothing after '}' in the header", "x");
  text_refused("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3)} '", "nothing after '}' in the header", "'");
  text_refused("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (2, 3)}",
               "a dtype of plain numbers in the header", "[");
  text_refused("{'descr': None, 'fortran_order': False, 'shape': (2, 3)}", "a dtype of plain numbers in the header",
               "None");
  text_refused("{'descr': '<f4', 'fortran_order': 0, 'shape': (2, 3)}", "True or False in the header", "0");
  text_refused("{'descr': '<f4', 'fortran_order': 'False', 'shape': (2, 3)}", "True or False in the header", "'False'");
  text_refused("{'descr': '<f4', 'fortran_order': Falsehood, 'shape': (2, 3)}", "True or False in the header",
               "Falsehood");
  text_refused("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3)\xc3\xa9}", "a header in printable ASCII",
               "byte 195");
  text_refused("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3)}\0"s, "a header in printable ASCII", "byte 0");

  const auto shape_refused = [&](const std::string& shape, const std::string& expected, const std::string& got) {
    text_refused("{'descr': '<f4', 'fortran_order': False, 'shape': " + shape + "}", expected, got);
  };
  const auto sizes = "sizes from 0 up to 63 bits in the header"s;
  shape_refused("(-2, 3)", sizes, "-2");
  shape_refused("(+2, 3)", sizes, "+2");
  shape_refused("(-0, 3)", sizes, "-0");
  shape_refused("(02, 3)", sizes, "02");
  shape_refused("(2, 3.0)", sizes, "3.0");
  shape_refused("(2, 3L)", sizes, "3L");
  shape_refused("(2, 0x3)", sizes, "0x3");
  shape_refused("(2, x)", sizes, "x");
  shape_refused("(2, '3')", sizes, "'3'");
  shape_refused("(9223372036854775808, 0)", sizes, "9223372036854775808");
  shape_refused("(99999999999999999999999999, 0)", sizes, "99999999999999999999999999");
  shape_refused("(,)", sizes, ",");
  shape_refused("(2,, 3)", sizes, ",");
  shape_refused("(2", "',' in the header", "}");
  text_refused("{'shape': (", sizes, "its end");
  text_refused("{'shape': (2, ", sizes, "its end");
  shape_refused("(2 3)", "',' in the header", "3");
  shape_refused("(6)", "',' in the header", ")");
  shape_refused("6", "'(' in the header", "6");
  shape_refused("[2, 3]", "'(' in the header", "[");
  shape_refused("()", "2-dimensional data", "0-dimensional");
  shape_refused("(6,)", "2-dimensional data", "1-dimensional");
  shape_refused("(1, 2, 3)", "2-dimensional data", "3-dimensional");
  shape_refused("(9223372036854775807, 9223372036854775807)", "sizes that memory can hold", "larger ones");
  shape_refused("(2305843009213693952, 1)", "sizes that memory can hold", "larger ones");
  shape_refused("(2147483648, 2147483648)", "sizes that memory can hold", "larger ones");

  text_refused("{'descr': '<f4', 'fortran_order': True, 'shape': (2, 3)}", "row-major data", "Fortran order");
  for (const std::string dtype : {">f4", ">f8", ">i8"})
    text_refused("{'descr': '" + dtype + "', 'fortran_order': False, 'shape': (2, 3)}", "little-endian numbers",
                 "'" + dtype + "'");
  for (const std::string dtype : {"<f8", "<i8", "<f2", "<i4", "|u1", "=f4", "|O", "float32", ""})
    text_refused("{'descr': '" + dtype + "', 'fortran_order': False, 'shape': (2, 3)}", "dtype '<f4'",
                 "'" + dtype + "'");

  // The data.
  refused(npy(float_header, float_data.substr(0, 20)), "24 bytes of data", "only 20");
  refused(npy(float_header, ""), "24 bytes of data", "only 0");
  refused(npy(float_header, float_data + "xyz"), "the end after 24 bytes of data", "3 more");
  refused(npy(" " + float_header, float_data), "data at a multiple of 4 bytes", "data at 129");

  // The other functions name themselves and their own types.
  CHECK(error_of([&] { npy_table<double>{put(file, float_file)}; }) ==
        "npy_table: expected dtype '<f8', got '<f4' in " + file.string());
  CHECK(error_of([&] { npy_array<std::int64_t>{file}; }) ==
        "npy_array: expected dtype '<i8', got '<f4' in " + file.string());
  CHECK(error_of([&] { npy_array<float>{file}; }) ==
        "npy_array: expected 1-dimensional data, got 2-dimensional in " + file.string());

  // What is no file of bytes, or cannot be opened.
  CHECK(error_of([&] { npy_table<float>{folder.name}; }) ==
        "npy_table: expected a regular file, got a folder or a device in " + folder.name.string());
  const auto pipe = folder / "pipe";
  REQUIRE(::mkfifo(pipe.c_str(), 0600) == 0);  // with nobody at its other end, an ordinary open would not return
  CHECK(error_of([&] { npy_table<float>{pipe}; }) ==
        "npy_table: expected a regular file, got a folder or a device in " + pipe.string());
  const auto none = folder / "none.npy";
  CHECK(error_of([&] { npy_table<float>{none}; }) ==
        "another exception: npy_table: could not open " + none.string() + ": No such file or directory");
  CHECK_THROWS_AS(npy_array<double>(none), std::runtime_error);

  CHECK(descriptors() == open_before);
}

TEST_CASE("Every cut of a file and every longer one is refused") {
  const temporary_folder folder;
  const auto file = folder / "file.npy";
  const auto error = [&]<class S>(S, const std::string& bytes) {
    put(file, bytes);
    return error_of([&] { npy_table<S>{file}; });
  };
  const auto check = [&](auto scalar, const std::string& whole) {
    CHECK(error(scalar, whole) == "no error");
    for (std::size_t size = 0; size < whole.size(); ++size)
      if (!error(scalar, whole.substr(0, size)).starts_with("npy_table: expected ")) FAIL("a cut at " << size);
    for (const char more : {'\0', '\n', ' ', '\x7f'})
      CHECK(error(scalar, whole + more).starts_with("npy_table: expected the end after "));
  };
  check(0.0f, float_file);
  check(0.0, double_file);
  check(0.0f, npy(float_header.substr(0, 115) + "\n", float_data, 2));
  check(0.0, npy(double_header.substr(0, 115) + "\n", double_data, 3));
}

TEST_CASE("A header with wrong bytes is refused, or describes just the data that is there") {
  const temporary_folder folder;
  const auto file = folder / "file.npy";
  const std::string data(48, '\0');
  std::mt19937 random(1);
  const auto below = [&](std::size_t n) { return static_cast<std::size_t>(random() % n); };
  const std::string grammar = "{}()[]:,'\"0123456789 \n-<>f48iTrueFals";
  int opened = 0;
  for (int round = 0; round < 20'000; ++round) {
    const char version = static_cast<char>(1 + round % 3);
    const std::string padding(version == 1 ? 1 : 3, ' ');  // to a multiple of 4
    auto bytes = npy("{'descr':'<f4','fortran_order':False,'shape':(3, 4)}" + padding + "\n", data, version);
    const auto header_end = bytes.size() - data.size();
    for (std::size_t changes = 1 + below(3); changes > 0; --changes)
      bytes[6 + below(header_end - 6)] = below(2) == 0 ? static_cast<char>(below(256)) : grammar[below(grammar.size())];
    put(file, bytes);
    try {
      const npy_table<float> table(file);
      ++opened;
      std::size_t size = 0;
      volatile float sum = 0;  // of every row, so that a sanitizer sees a wrong address
      for (Index p = 0; p < table.rows(); ++p) {
        size += static_cast<std::size_t>(table.row(p).size()) * sizeof(float);
        sum = sum + table.row(p).sum();
      }
      // Where the data starts by the bytes as they are now.
      const auto byte = [&](std::size_t i) { return std::size_t{static_cast<unsigned char>(bytes[i])}; };
      const auto start = byte(6) == 1 ? 10 + byte(8) + 256 * byte(9) : 12 + byte(8) + 256 * byte(9);
      if (size != bytes.size() - start) FAIL("round " << round << ": " << size << " bytes of data in " << bytes);
    } catch (const std::invalid_argument&) {
    }
  }
  CHECK(opened > 50);  // where spaces or quotes became others, or 3 × 4 became 2 × 6
}

TEST_CASE("write_npy writes what NumPy would, byte by byte") {
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

TEMPLATE_TEST_CASE("What is written is read again, bit by bit", "", float, double) {
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
  write_npy(file, values.col(3));  // by its type a column, though not contiguous
  CHECK(same_bits<array<S>>(npy_array<S>(file).view(), column));
  write_npy(file, array<S>());
  CHECK(npy_array<S>(file).size() == 0);
}

TEST_CASE("An empty row is refused where it is calibrated against") {
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

  // A file that is refused changes nothing.
  put(folder / "bad", "no such file");
  CHECK_THROWS_AS(grown.append(folder / "bad"), std::invalid_argument);
  CHECK_THROWS_AS(grown.append(folder / "none"), std::runtime_error);
  check(grown, 5);
  files.push_back(folder / "bad");
  CHECK(error_of([&] { npy_table<float>{files}; }) ==
        "npy_table: expected a .npy file, got other first bytes in " + files.back().string());

  // Rows without columns need no bytes, so that there can be too many of them.
  put(folder / "many", npy(padded("{'descr': '<f4', 'fortran_order': False, 'shape': (2000000000000000000, 0)}"), ""));
  npy_table<float> many(std::vector<path>(4, folder / "many"));
  CHECK(many.row(7'999'999'999'999'999'999).size() == 0);
  CHECK(error_of([&] { many.append(folder / "many"); }) ==
        "npy_table: expected at most 1223372036854775807 rows, got 2000000000000000000 in " +
            (folder / "many").string());
  CHECK(many.rows() == 8'000'000'000'000'000'000);
}

TEST_CASE("Copies share a mapping, which outlives the table and the file it was made from") {
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
  const auto kept = *numbers;
  numbers.reset();
  CHECK(same_bits<array<float>>(kept.view(), float_values.row(0).transpose()));
}

TEST_CASE("A write that fails throws, keeps the old file, and leaves nothing behind") {
  const temporary_folder folder;
  const auto error = [](const path& file) { return error_of([&] { write_npy(file, float_values); }); };
  const auto none = folder / "none" / "file.npy";
  CHECK(error(none) ==
        "another exception: write_npy: could not open the folder of " + none.string() + ": No such file or directory");
  const auto below_file = put(folder / "file", "x") / "file.npy";
  CHECK(error(below_file) ==
        "another exception: write_npy: could not open the folder of " + below_file.string() + ": Not a directory");
  const auto long_name = folder / std::string(300, 'x');
  CHECK(error(long_name) ==
        "another exception: write_npy: could not create " + long_name.string() + ": File name too long");
  std::filesystem::create_directory(folder / "taken");
  CHECK(error(folder / "taken") ==
        "another exception: write_npy: could not replace " + (folder / "taken").string() + ": Is a directory");
  std::filesystem::remove(folder / "taken");
  std::filesystem::remove(folder / "file");
  CHECK(folder.files().empty());

  // The disk is full, as far as this process can tell, after 1000 bytes.
  const auto file = folder / "file.npy";
  write_npy(file, float_values);
  const matrix<float> larger = matrix<float>::Random(20, 20);
  const auto limit_files = [] {
    rlimit limit;
    ::getrlimit(RLIMIT_FSIZE, &limit);
    const auto before = limit;
    limit.rlim_cur = 1000;
    ::setrlimit(RLIMIT_FSIZE, &limit);
    return before;
  };
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  const auto before = limit_files();
  const auto full = error_of([&] { write_npy(file, larger); });
  ::setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, handler);
  CHECK(full == "another exception: write_npy: could not write " + file.string() + ": File too large");
  CHECK(bytes_of(file) == float_file);
  CHECK(folder.files() == std::vector<std::string>{"file.npy"});

  // A crash in the middle of a write: the limit kills the process, which can clean nothing up.
  const auto child = ::fork();
  if (child == 0) {
    std::signal(SIGXFSZ, SIG_DFL);
    const rlimit no_core{0, 0};
    ::setrlimit(RLIMIT_CORE, &no_core);
    limit_files();
    error_of([&] { write_npy(file, larger); });
    ::_exit(0);
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  CHECK((WIFSIGNALED(status) && WTERMSIG(status) == SIGXFSZ));
  CHECK(bytes_of(file) == float_file);
  CHECK(folder.files().size() == 2);
  // What a crashed process of the same number left does not stand in the way.
  const auto left = put(file.string() + ".tmp" + std::to_string(::getpid()) + ".0", "x");
  write_npy(file, larger);
  CHECK(same_bits(all_rows(npy_table<float>(file)), larger));
  CHECK(bytes_of(left) == "x");
  CHECK(folder.files().size() == 3);
}

TEMPLATE_TEST_CASE("Against a table in files the calibrated rewards are those against the matrix", "", float, double) {
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
    CHECK(same_bits(calibrate(one, prompt, flat, add_one{}), calibrate(reference, prompt, flat, add_one{})));
    const calibration shape{one};
    STATIC_REQUIRE(std::is_same_v<decltype(shape), const calibration<npy_table<S>>>);
    CHECK(same_bits(shape(prompt, flat), calibrate(reference, prompt, flat)));
  }
}

TEST_CASE("Two mapped arrays are a ragged table, without a copy") {
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

TEST_CASE("A table of half a gigabyte is opened at once, and only the rows in use come into memory") {
  const temporary_folder folder;
  const auto file = folder / "large.npy";
  constexpr Index prompts = 1'000'000, columns = 128;
  // A file of zeros, which takes no room on the disk.
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
    WARN("not tested: INFALIGN_NPY_FOLDER does not name a folder of tests/npy_numpy.py");
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
  CHECK(error("fortran.npy") == "npy_table: expected row-major data, got Fortran order");
  CHECK(error("big_endian.npy") == "npy_table: expected little-endian numbers, got '>f4'");
  CHECK(error("integers.npy") == "npy_table: expected dtype '<f4', got '<i8'");
  CHECK(error("half.npy") == "npy_table: expected dtype '<f4', got '<f2'");
  CHECK(error("structured.npy") == "npy_table: expected a dtype of plain numbers in the header, got [");
  CHECK(error("flat_f4.npy") == "npy_table: expected 2-dimensional data, got 1-dimensional");
  CHECK(error("cube.npy") == "npy_table: expected 2-dimensional data, got 3-dimensional");
}
