// SPDX-License-Identifier: MIT
// Uses that lack a header, if WRONG is defined: programs/compile_fail.sh looks for the name of the header in the compiler's message.
#include <infalign/calibration.hpp>

using namespace infalign;

namespace other {
/// An operator| of another library, for any left side.
struct view {};
template <class Left>
int operator|(const Left&, view) {
  return 1;
}
}  // namespace other

/// Found by a requires expression.
template <class Right>
constexpr bool composes = requires(const calibration<matrix<float>>& shape, const Right& right) {
  shape | right;
};

void right(const matrix<float>& f) {
  [[maybe_unused]] const int of_other_library = calibration{f} | other::view{};
  static_assert(composes<other::view>);
  static_assert(!composes<int>);
  static_assert(!composes<float (*)(float)>);
}

#ifdef WRONG
void wrong(const matrix<float>& f) {
  const auto half = [](float u) { return u / 2; };
  // error: transform_needs_header_infalign_transform_hpp
  calibration{f} | half;
  // error: infalign_transform_hpp
  calibration{f, calibration_prior{f}} | half;
}
#endif
