#include "catch.hpp"
TEST_CASE("x") {
  CHECK(1 == 1);
}
