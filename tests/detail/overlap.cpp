// SPDX-License-Identifier: MIT
#include <infalign/detail/overlap.hpp>

#include "arrays.hpp"

#include <infalign/infalign.hpp>

#include <string>
#include <vector>

using namespace infalign;
using detail::memory_of;

TEST_CASE("The memory of an object covers its numbers, whatever its order and strides") {
  matrix<float> m(4, 6);
  const auto whole = memory_of(m);
  CHECK(whole.end - whole.first == 24 * sizeof(float));
  CHECK(memory_of(m.topRows(2)).end == reinterpret_cast<std::uintptr_t>(&m(2, 0)));
  CHECK(memory_of(m.block(1, 2, 2, 3)).first == reinterpret_cast<std::uintptr_t>(&m(1, 2)));
  CHECK(memory_of(m.block(1, 2, 2, 3)).end == reinterpret_cast<std::uintptr_t>(&m(2, 5)));
  CHECK(memory_of(m.col(2)).end == reinterpret_cast<std::uintptr_t>(&m(3, 3)));
  CHECK(memory_of(m.transpose()) == detail::memory(m.data(), 6, 4, 1, 6));
  CHECK_FALSE(memory_of(m + m).overlaps(whole));  // an expression has no memory of its own
  CHECK_FALSE(memory_of(m.leftCols(0)).overlaps(whole));
  CHECK_FALSE(memory_of(m.topRows(2)).overlaps(memory_of(m.bottomRows(2))));
  CHECK(memory_of(m.topRows(3)).overlaps(memory_of(m.bottomRows(2))));
}

// Each function that writes to a buffer is called with a result in its input: in place, which is right, and shifted,
// which must not give wrong numbers silently.
TEST_CASE("A result in the places of the input is right, and one that is shifted is an error") {
  const matrix<double> numbers{{0.1, 0.9, 0.4}, {0.8, 0.2, 0.6}, {0.3, 0.7, 0.5}, {0.9, 0.1, 0.2}};
  const matrix<double> reference{{0.5, 0.2, 0.1, 0.8}, {0.4, 0.3, 0.9, 0.6}};
  const std::string shared = "with other memory, got memory that is shared in part";
  workspace space;
  const auto check = [&](const char* function, const auto& into) {
    INFO(function);
    matrix<double> expected(2, 3), buffer = numbers;
    into(expected, matrix<double>(numbers.topRows(2)));
    into(buffer.topRows(2), buffer.topRows(2));
    CHECK(same(matrix<double>(buffer.topRows(2)), expected));
    buffer = numbers;
    const auto error = error_of([&] { into(buffer.middleRows(1, 2), buffer.topRows(2)); });
    CHECK(error.find(function) == 0);
    CHECK(error.find(shared) != std::string::npos);
    CHECK(same(buffer, numbers));
    into(buffer.bottomRows(2), buffer.topRows(2));  // apart
    CHECK(same(matrix<double>(buffer.bottomRows(2)), expected));
  };
  const calibration_prior<double> prior{reference, prior_model::pooled, 2};
  check("calibrate_into", [&](auto&& result, const auto& r) { calibrate_into(result, reference, r); });
  check("calibrate_into", [&](auto&& result, const auto& r) { calibrate_into(result, reference, prior, r); });
  check("calibrate_into", [&](auto&& result, const auto& r) { calibration{reference}.into(result, r); });
  check("calibrate_into", [&](auto&& result, const auto& r) { calibration{reference, prior}.into(result, r); });
  check("calibrate_into", [&](auto&& result, const auto& r) { (calibration{reference} | power{2}).into(result, r); });
  check("calibrate_leave_one_out", [&](auto&& result, const auto& r) { calibrate_leave_one_out_into(result, r); });
  check("calibrate_leave_one_out",
        [&](auto&& result, const auto& r) { calibrate_leave_one_out_into(result, prior, space, r); });
  check("transform_into", [&](auto&& result, const auto& r) { transform_into(result, r, power{2}); });
  check("advantage", [&](auto&& result, const auto& r) { advantage_into(result, space, r, leave_one_out{}); });

  array<double> flat{{0.1, 0.9, 0.4, 0.8}};
  const std::vector<int> prompt{0, 1, 0};
  CHECK(error_of([&] { calibrate_into(flat.tail(3), reference, prompt, flat.head(3)); }).find(shared) !=
        std::string::npos);
}

TEST_CASE("A result in the memory of the reference is an error; an expression of it is evaluated first") {
  matrix<double> reference{{0.5, 0.2, 0.1}, {0.4, 0.3, 0.9}};
  const matrix<double> rewards{{0.3, 0.1, 0.6}, {0.2, 0.35, 1}};
  const auto expected = calibrate(reference, rewards);
  const std::string text =
      "calibrate_into: expected a result with other memory than the reference rewards, got shared memory";
  CHECK(error_of([&] { calibrate_into(reference, reference, rewards); }) == text);
  CHECK(error_of([&] { calibrate_into(reference, reference, calibration_prior<double>{}, rewards); }) == text);
  CHECK(error_of([&] { calibrate_into(reference.leftCols(1), reference, rewards.leftCols(1)); }) == text);
  using view = Eigen::Map<const matrix<double>>;
  const calibration viewing{view(reference.data(), 2, 3)};
  CHECK(error_of([&] { viewing.into(reference, rewards); }) == text);
  const calibration with_prior{view(reference.data(), 2, 3), calibration_prior<double>{reference}};
  CHECK(error_of([&] { with_prior.into(reference, rewards); }) == text);
  array<double> values = reference.reshaped<Eigen::RowMajor>();
  const ragged table(Eigen::Map<const array<double>>(values.data(), 6), std::vector<int>{0, 3, 6});
  CHECK(error_of([&] { calibrate_into(values.head(2), table, rewards.col(0)); }) == text);
  CHECK(error_of([&] { calibrate_into(reference, matrix<double>(reference), rewards); }) == "no error");
  matrix<double> table_and_result{{0.5, 0.2, 0.1}, {0.4, 0.3, 0.9}};
  calibrate_into(table_and_result, 2 * table_and_result - table_and_result, rewards);
  CHECK(same(table_and_result, expected));
}

TEST_CASE("A gradient over the batch's own log-probabilities is right, and one that is shifted is an error") {
  const matrix<double> now{{-1, -2, -0.5}, {-0.3, -1, -2}}, reference{{-1.2, -1, -1}, {-1, -1, -1}}, rewards{{1, 0}};
  const policy_gradient step{k3_token_loss{.beta = 0.1}, leave_one_out{}};
  const auto expected =
      step(token_batch<double>{.log_probabilities = now, .reference_log_probabilities = reference}, rewards);
  step_result<double> out;
  out.gradient = now;
  step.into(out, token_batch<double>{.log_probabilities = out.gradient, .reference_log_probabilities = reference},
            rewards);
  CHECK(same(out.gradient, expected.gradient));
  out.gradient.resize(3, 3);
  out.gradient.topRows(2) = now;
  CHECK(error_of([&] {
          step.into(out,
                    token_batch<double>{.log_probabilities = out.gradient.topRows(2),
                                        .reference_log_probabilities = reference},
                    rewards);
        }) ==
        "policy_gradient: expected a result in the places of the batch or with other memory, got memory that is shared "
        "in part");
}
