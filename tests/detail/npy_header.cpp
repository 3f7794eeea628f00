// SPDX-License-Identifier: MIT
#include <infalign/detail/npy_header.hpp>

#include "catch.hpp"

#include <cstdint>
#include <random>
#include <string>

using namespace infalign;
using namespace std::string_literals;

namespace {

/// The bytes of a file with this header, version and data.
std::string npy(const std::string& header, const std::string& data = std::string(24, '\0'), char version = 1) {
  std::string length;
  for (int i = 0; i < (version == 1 ? 2 : 4); ++i) length += static_cast<char>(header.size() >> 8 * i & 255);
  return "\x93NUMPY"s + version + '\0' + length + header + data;
}

/// A header of version 1 with NumPy's padding: the data starts at byte 128.
std::string padded(const std::string& text) {
  return text + std::string(117 - text.size(), ' ') + "\n";
}

const std::string float_header = padded("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }");
const std::string float_data(24, '\1');
const std::string float_file = "\x93NUMPY\x01\x00\x76\x00"s + float_header + float_data;

detail::npy_data find(const std::string& file, std::size_t dimensions = 2) {
  const std::filesystem::path name = "file.npy";
  return detail::find_npy_data({"test", name}, file, "<f4", 4, dimensions);
}

std::string error(const std::string& file, std::size_t dimensions = 2) {
  return error_of([&] { find(file, dimensions); });
}

}  // namespace

TEST_CASE("A header may have any spelling that a Python dict may have") {
  for (const auto header : {
           "{'descr':'<f4','fortran_order':False,'shape':(2,3)}",
           "{\"shape\": (2, 3,), \"descr\": \"<f4\", \"fortran_order\": False}",
           "  { 'fortran_order' :False ,'shape'\t:\t( 2 ,3 , ) , \"descr\": '<f4' , }  ",
           "{'shape': (2, 3), 'fortran_order': False, 'descr': '<f4', }",
       }) {
    const auto found = find(npy(padded(header), float_data));
    CHECK(found.offset == 128);
    CHECK(found.rows == 2);
    CHECK(found.columns == 3);
  }
  // The longest header that is allowed.
  const auto longest = float_header.substr(0, 117) + std::string(10'000 - 118, ' ') + "\n";
  CHECK(find(npy(longest, float_data, 2)).rows == 2);
  CHECK(find(npy(longest, float_data, 2)).offset == 10'012);
}

TEST_CASE("Fortran order is accepted if the order does not matter") {
  const auto fortran = [](const std::string& shape, std::size_t numbers) {
    const auto header = padded("{'descr': '<f4', 'fortran_order': True, 'shape': " + shape + ", }");
    return npy(header, std::string(4 * numbers, '\0'));
  };
  CHECK(error(fortran("(6,)", 6), 1) == "no error");
  CHECK(error(fortran("(0,)", 0), 1) == "no error");
  for (const auto& [shape, numbers] :
       {std::pair{"(1, 6)", 6u}, {"(6, 1)", 6u}, {"(1, 1)", 1u}, {"(0, 6)", 0u}, {"(6, 0)", 0u}})
    CHECK(error(fortran(shape, numbers)) == "no error");
  CHECK(find(fortran("(6, 1)", 6)).rows == 6);
  CHECK(find(fortran("(1, 6)", 6)).columns == 6);
  CHECK(error(fortran("(2, 3)", 6)) == "test: expected row-major data, got Fortran order in file.npy");
  CHECK(error(fortran("(2, 1, 3)", 6), 3) == "test: expected row-major data, got Fortran order in file.npy");
}

TEST_CASE("An invalid file is rejected, and the error says why") {
  const auto rejected = [](const std::string& bytes, const std::string& expected, const std::string& got) {
    CHECK(error(bytes) == "test: expected " + expected + ", got " + got + " in file.npy");
  };
  rejected("", "a .npy file", "no bytes");
  rejected("\x93NUMPX"s + float_file.substr(6), "a .npy file", "other first bytes");
  rejected("PK\x03\x04 a .npz file", "a .npy file", "other first bytes");
  rejected(float_file.substr(0, 11), "a header", "a file of 11 bytes");
  rejected(npy(float_header, float_data, 0), "version 1.0, 2.0 or 3.0", "0.0");
  rejected(npy(float_header, float_data, 4), "version 1.0, 2.0 or 3.0", "4.0");
  rejected("\x93NUMPY\x01\x01"s + float_file.substr(8), "version 1.0, 2.0 or 3.0", "1.1");
  rejected(float_file.substr(0, 100), "a header of 118 bytes", "only 90");
  rejected(npy(std::string(10'001, ' ')), "a header of at most 10000 bytes", "10001");
  rejected("\x93NUMPY\x02\x00\xff\xff\xff\xff"s + float_header, "a header of at most 10000 bytes", "4294967295");
  rejected(npy(""), "a header that ends in a newline", "none");
  rejected(npy(float_header.substr(0, 117) + " "), "a header that ends in a newline", "none");

  // The text of the header.
  const auto text_rejected = [&](const std::string& text, const std::string& expected, const std::string& got) {
    rejected(npy(text + "\n"), expected, got);
  };
  const auto keys = "the keys descr, fortran_order and shape"s;
  text_rejected("", "'{' in the header", "its end");
  text_rejected("[1]", "'{' in the header", "[");
  text_rejected("{}", keys, "only 0");
  text_rejected("{'descr': '<f4', 'shape': (2, 3)}", keys, "only 2");
  text_rejected("{'descr': '<f4', 'fortran_order': False, 'sizes': (2, 3)}", keys, "'sizes'");
  text_rejected("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), 'x': 1}", keys, "'x'");
  text_rejected("{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (2, 3)}", "each key once",
                "'descr' twice");
  text_rejected("{descr: '<f4'}", "a key in the header", "descr");
  text_rejected("{'descr' '<f4'}", "':' in the header", "'<f4'");
  text_rejected("{'descr': '<f4' 'shape': (2, 3)}", "',' or '}' in the header", "'shape'");
  text_rejected("{'descr': '<f4',, 'shape': (2, 3)}", "a key in the header", ",");
  text_rejected("{'descr': '<f4", "a dtype of plain numbers in the header", "'<f4");
  text_rejected("{'", "a key in the header", "'");
  text_rejected("{'descr'", "':' in the header", "its end");
  text_rejected("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3)", "',' or '}' in the header", "its end");
  text_rejected("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3)} x", "nothing after '}' in the header", "x");
  text_rejected("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3)} '", "nothing after '}' in the header", "'");
  text_rejected("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (2, 3)}",
                "a dtype of plain numbers in the header", "[");
  text_rejected("{'descr': None, 'fortran_order': False, 'shape': (2, 3)}", "a dtype of plain numbers in the header",
                "None");
  text_rejected("{'descr': '<f4', 'fortran_order': 0, 'shape': (2, 3)}", "True or False in the header", "0");
  text_rejected("{'descr': '<f4', 'fortran_order': 'False', 'shape': (2, 3)}", "True or False in the header",
                "'False'");
  text_rejected("{'descr': '<f4', 'fortran_order': Falsehood, 'shape': (2, 3)}", "True or False in the header",
                "Falsehood");
  text_rejected("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3)\xc3\xa9}", "a header in printable ASCII",
                "byte 195");
  text_rejected("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3)}\0"s, "a header in printable ASCII",
                "byte 0");

  const auto shape_rejected = [&](const std::string& shape, const std::string& expected, const std::string& got) {
    text_rejected("{'descr': '<f4', 'fortran_order': False, 'shape': " + shape + "}", expected, got);
  };
  const auto sizes =
      (sizeof(Eigen::Index) == 8 ? "sizes from 0 up to 63 bits"s : "sizes from 0 up to 31 bits"s) + " in the header";
  shape_rejected("(-2, 3)", sizes, "-2");
  shape_rejected("(+2, 3)", sizes, "+2");
  shape_rejected("(-0, 3)", sizes, "-0");
  shape_rejected("(02, 3)", sizes, "02");
  shape_rejected("(2, 3.0)", sizes, "3.0");
  shape_rejected("(2, 3L)", sizes, "3L");
  shape_rejected("(2, 0x3)", sizes, "0x3");
  shape_rejected("(2, x)", sizes, "x");
  shape_rejected("(2, '3')", sizes, "'3'");
  shape_rejected("(9223372036854775808, 0)", sizes, "9223372036854775808");
  shape_rejected("(99999999999999999999999999, 0)", sizes, "99999999999999999999999999");
  shape_rejected("(,)", sizes, ",");
  shape_rejected("(2,, 3)", sizes, ",");
  shape_rejected("(2", "',' in the header", "}");
  text_rejected("{'shape': (", sizes, "its end");
  text_rejected("{'shape': (2, ", sizes, "its end");
  shape_rejected("(2 3)", "',' in the header", "3");
  shape_rejected("(6)", "',' in the header", ")");
  shape_rejected("6", "'(' in the header", "6");
  shape_rejected("[2, 3]", "'(' in the header", "[");
  shape_rejected("()", "2-dimensional data", "0-dimensional");
  shape_rejected("(6,)", "2-dimensional data", "1-dimensional");
  shape_rejected("(1, 2, 3)", "2-dimensional data", "3-dimensional");
  if (sizeof(Eigen::Index) == 8) {
    shape_rejected("(9223372036854775807, 9223372036854775807)", "sizes that memory can hold", "larger ones");
    shape_rejected("(2305843009213693952, 1)", "sizes that memory can hold", "larger ones");
    shape_rejected("(2147483648, 2147483648)", "sizes that memory can hold", "larger ones");
  }

  text_rejected("{'descr': '<f4', 'fortran_order': True, 'shape': (2, 3)}", "row-major data", "Fortran order");
  for (const std::string dtype : {">f4", ">f8", ">i8"})
    text_rejected("{'descr': '" + dtype + "', 'fortran_order': False, 'shape': (2, 3)}", "little-endian numbers",
                  "'" + dtype + "'");
  for (const std::string dtype : {"<f8", "<i8", "<f2", "<i4", "|u1", "=f4", "|O", "float32", ""})
    text_rejected("{'descr': '" + dtype + "', 'fortran_order': False, 'shape': (2, 3)}", "dtype '<f4'",
                  "'" + dtype + "'");

  // The data.
  rejected(npy(float_header, float_data.substr(0, 20)), "24 bytes of data", "only 20");
  rejected(npy(float_header, ""), "24 bytes of data", "only 0");
  rejected(npy(float_header, float_data + "xyz"), "the end after 24 bytes of data", "3 more");
  rejected(npy(" " + float_header, float_data), "data at a multiple of 4 bytes", "data at 129");
}

TEST_CASE("A header with wrong bytes is rejected, or describes exactly the data that follows") {
  const std::string data(48, '\0');
  std::mt19937 random(1);
  const auto below = [&](std::size_t n) { return static_cast<std::size_t>(random() % n); };
  const std::string grammar = "{}()[]:,'\"0123456789 \n-<>f48iTrueFals";
  int accepted = 0;
  for (int round = 0; round < 20'000; ++round) {
    const char version = static_cast<char>(1 + round % 3);
    const std::string padding(version == 1 ? 1 : 3, ' ');  // to a multiple of 4
    auto bytes = npy("{'descr':'<f4','fortran_order':False,'shape':(3, 4)}" + padding + "\n", data, version);
    const auto header_end = bytes.size() - data.size();
    for (std::size_t changes = 1 + below(3); changes > 0; --changes)
      bytes[6 + below(header_end - 6)] = below(2) == 0 ? static_cast<char>(below(256)) : grammar[below(grammar.size())];
    try {
      const auto found = find(bytes);
      ++accepted;
      const auto size = static_cast<std::size_t>(found.rows * found.columns) * sizeof(float);
      // Where the data starts by the bytes as they are now.
      const auto byte = [&](std::size_t i) { return std::size_t{static_cast<unsigned char>(bytes[i])}; };
      const auto start = byte(6) == 1 ? 10 + byte(8) + 256 * byte(9) : 12 + byte(8) + 256 * byte(9);
      if (found.offset != start || size != bytes.size() - start)
        FAIL("round " << round << ": " << size << " bytes of data in " << bytes);
    } catch (const std::invalid_argument&) {
    }
  }
  CHECK(accepted > 50);  // spaces or quotes became others, or 3 × 4 became 2 × 6
}

TEST_CASE("A preamble is a header that is found again, with the data at a multiple of 64 bytes") {
  const bool wide = sizeof(Eigen::Index) == 8;
  for (const std::string shape : {"2, 3", "6, 1", wide ? "2305843009213693951, 0" : "2147483647, 0", "6,"}) {
    const auto preamble = detail::npy_preamble("<f4", shape);
    CHECK(preamble.size() % 64 == 0);
    const bool flat = shape == "6,", empty = shape.ends_with(" 0");
    const auto found = find(preamble + std::string(empty ? 0 : 24, '\0'), flat ? 1 : 2);
    CHECK(found.offset == preamble.size());
    CHECK(detail::concat(found.rows, flat ? "," : detail::concat(", ", found.columns)) == shape);
  }
  CHECK(detail::npy_preamble("<f4", "2, 3") == float_file.substr(0, 128));
  CHECK(detail::npy_dtype<float> == "<f4"s);
  CHECK(detail::npy_dtype<double> == "<f8"s);
  CHECK(detail::npy_dtype<std::int64_t> == "<i8"s);
}

TEST_CASE("An error quotes at most 200 bytes of a header") {
  const detail::file_task task{"test", "file.npy"};
  const auto error = error_of([&] { detail::npy_header("{'" + std::string(5000, 'k') + "': 1}", task); });
  CHECK(error.size() < 400);
  CHECK(error.ends_with("kkk... in file.npy"));
}
