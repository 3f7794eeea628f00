// SPDX-License-Identifier: MIT
#include <infalign/calibration/reference.hpp>

#include "catch.hpp"

#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

using namespace infalign;
using Eigen::Index;

namespace {

template <class S>
std::vector<S> list(const Eigen::Map<const array<S>>& row) {
  return {row.begin(), row.end()};
}

}  // namespace

TEMPLATE_TEST_CASE("A ragged table has rows of different lengths, also empty ones", "", float, double) {
  using S = TestType;
  const std::vector<std::vector<S>> lines{{3, 1, 2}, {}, {7}, {5, 4}, {}};
  const auto check = [&](const auto& table) {
    REQUIRE(table.rows() == 5);
    for (std::size_t p = 0; p < lines.size(); ++p) CHECK(list<S>(table.row(static_cast<Index>(p))) == lines[p]);
  };
  const array<S> values{{3, 1, 2, 7, 5, 4}};
  check(ragged(lines));
  check(ragged(values, std::vector<int>{0, 3, 3, 4, 6, 6}));
  check(ragged(values, std::vector<std::uint8_t>{0, 3, 3, 4, 6, 6}));
  check(ragged(values, Eigen::Array<Index, Eigen::Dynamic, 1>{{0, 3, 3, 4, 6, 6}}));
  check(ragged(Eigen::Matrix<S, Eigen::Dynamic, 1>(values.matrix()), std::vector<std::size_t>{0, 3, 3, 4, 6, 6}));
  check(ragged(Eigen::Matrix<S, 1, 6>(values.matrix().transpose()), std::vector<long long>{0, 3, 3, 4, 6, 6}));

  CHECK(ragged(std::vector<std::vector<S>>{}).rows() == 0);
  CHECK(ragged(array<S>(), std::vector<int>{0}).rows() == 0);
  const ragged only_empty(std::vector<std::vector<S>>(2));
  CHECK(only_empty.rows() == 2);
  CHECK(only_empty.row(1).size() == 0);
}

TEMPLATE_TEST_CASE("A ragged table owns vectors and views a Map", "", float, double) {
  using S = TestType;
  std::vector<S> buffer{1, 2, 3, 4};
  std::vector<int> offsets{0, 1, 4};
  using map = Eigen::Map<const array<S>>;
  const ragged view(map(buffer.data(), 4), offsets);
  const ragged owner(array<S>(map(buffer.data(), 4)), offsets);
  STATIC_REQUIRE(std::is_same_v<decltype(view), const ragged<map, std::vector<int>>>);
  STATIC_REQUIRE(std::is_same_v<decltype(owner), const ragged<array<S>, std::vector<int>>>);
  CHECK(view.row(0).data() == buffer.data());
  CHECK(view.row(1).data() == buffer.data() + 1);

  buffer[2] = 9;
  offsets = {0, 4, 4};  // copied by both
  CHECK(list<S>(view.row(1)) == std::vector<S>{2, 9, 4});
  CHECK(list<S>(owner.row(1)) == std::vector<S>{2, 3, 4});

  const ragged copy(view);  // a view too
  CHECK(copy.row(1).data() == buffer.data() + 1);
  const ragged copy_of_owner(owner);
  CHECK(copy_of_owner.row(0).data() != owner.row(0).data());

  array<S> values{{1, 2, 3, 4}};
  const S* const before = values.data();
  const ragged moved(std::move(values), std::vector<int>{0, 1, 4});
  CHECK(moved.row(0).data() == before);

  std::vector<std::int64_t> shared_offsets{0, 1, 4};
  const ragged all_views(map(buffer.data(), 4),
                         Eigen::Map<const Eigen::Array<std::int64_t, Eigen::Dynamic, 1>>(shared_offsets.data(), 3));
  shared_offsets[1] = 2;
  CHECK(list<S>(all_views.row(0)) == std::vector<S>{1, 2});
}

TEST_CASE("Invalid offsets and values that are not contiguous are rejected") {
  const Eigen::ArrayXf values{{1, 2, 3}};
  const auto error = [&](auto... offset) { return error_of([&] { ragged(values, std::vector<int>{offset...}); }); };
  CHECK(error(0, 1, 3) == "no error");
  CHECK(error() == "ragged: expected offsets that start at 0, got no offsets");
  CHECK(error(1, 3) == "ragged: expected offsets that start at 0, got 1");
  CHECK(error(-1, 3) == "ragged: expected offsets that start at 0, got -1");
  CHECK(error(0, 2, 1, 3) == "ragged: expected offsets that never decrease, got 1 at index 2");
  CHECK(error(0, 2) == "ragged: expected offsets that end at the number of values, 3, got 2");
  CHECK(error(0, 4) == "ragged: expected offsets that end at the number of values, 3, got 4");
  CHECK(error(0) == "ragged: expected offsets that end at the number of values, 3, got 0");
  CHECK(error_of([&] {
          ragged(values, std::vector<std::uint64_t>{0, std::uint64_t{1} << 63, 3});
        }) == "ragged: expected offsets that never decrease, got -9223372036854775808 at index 1");

  const Eigen::Map<const Eigen::ArrayXf, 0, Eigen::InnerStride<>> every_other(values.data(), 2,
                                                                              Eigen::InnerStride<>(2));
  CHECK(error_of([&] {
          ragged(every_other, std::vector<int>{0, 2});
        }) == "ragged: expected values that lie next to each other, got a stride of 2");
}

TEMPLATE_TEST_CASE("An Eigen object with contiguous rows is viewed", "", float, double) {
  using S = TestType;
  const matrix<S> owner = matrix<S>::Random(4, 6);
  const auto views_owner = [&](const auto& e, Index first, Index step) {
    const auto& table = detail::rows_of(e);
    bool result = table.rows() == e.rows();
    for (Index p = 0; p < e.rows(); ++p) {
      result = result && table.row(p).data() == owner.data() + first + p * step;
      CHECK((table.row(p).transpose() == detail::as_array(e).row(p)).all());
    }
    return result;
  };
  using map = Eigen::Map<const matrix<S>>;
  using outer = Eigen::Map<const matrix<S>, 0, Eigen::OuterStride<>>;
  using vector_map = Eigen::Map<const array<S>>;
  CHECK(views_owner(owner, 0, 6));
  CHECK(views_owner(owner.matrix(), 0, 6));
  CHECK(views_owner(map(owner.data(), 3, 8), 0, 8));
  CHECK(views_owner(map(owner.data(), 3, 8).matrix(), 0, 8));
  CHECK(views_owner(outer(owner.data(), 2, 3, Eigen::OuterStride<>(12)), 0, 12));
  CHECK(views_owner(owner.block(1, 2, 3, 3), 8, 6));
  CHECK(views_owner(owner.middleRows(1, 2), 6, 6));
  CHECK(views_owner(Eigen::Ref<const matrix<S>>(owner), 0, 6));
  CHECK(views_owner(owner.row(2), 12, 0));                             // one prompt
  CHECK(views_owner(vector_map(owner.data(), 24), 0, 1));              // 24 prompts with one reward each
  CHECK(views_owner(vector_map(owner.data(), 24).transpose(), 0, 0));  // one prompt
  CHECK(views_owner(owner.transpose().reshaped().transpose(), 0, 0));  // one prompt, an expression with a buffer
}

TEMPLATE_TEST_CASE("Any other Eigen object is copied", "", float, double) {
  using S = TestType;
  const matrix<S> owner = matrix<S>::Random(4, 6);
  const auto copied = [&](const auto& e) {
    const auto& table = detail::rows_of(e);
    REQUIRE(table.rows() == e.rows());
    for (Index p = 0; p < e.rows(); ++p) {
      const auto row = table.row(p);
      REQUIRE(row.size() == e.cols());
      for (Index k = 0; k < e.cols(); ++k) CHECK(row[k] == e.coeff(p, k));
    }
  };
  const Eigen::Array<S, Eigen::Dynamic, Eigen::Dynamic> by_columns = owner;
  copied(by_columns);
  copied(by_columns.matrix());
  copied(by_columns.block(1, 1, 2, 3));
  copied(owner.transpose());
  copied(owner + by_columns);
  copied(S{2} * owner);
  copied(owner.col(3));
  copied(owner.reverse());
  copied(by_columns.row(1));
  copied(owner.col(3).transpose());
  using stride = Eigen::Stride<Eigen::Dynamic, Eigen::Dynamic>;
  copied(Eigen::Map<const matrix<S>, 0, stride>(owner.data(), 4, 3, stride(6, 2)));
  copied(Eigen::Map<const array<S>, 0, Eigen::InnerStride<>>(owner.data(), 8, Eigen::InnerStride<>(3)));
  copied(Eigen::Array<S, 1, Eigen::Dynamic>(owner.row(0)));
  copied(Eigen::Array<S, 2, 2>(owner.template topLeftCorner<2, 2>()));
  copied(matrix<S>(0, 5));
  copied(matrix<S>(5, 0));
}

TEST_CASE("A functor stores views and tables as they are, and any other object as a matrix") {
  using owned = matrix<float>;
  const auto stores_itself = []<class T>(const T*) { return std::is_same_v<typename detail::stored_as<T>::type, T>; };
  const auto stores_copy = []<class T>(const T*) { return std::is_same_v<typename detail::stored_as<T>::type, owned>; };
  using stride = Eigen::Stride<Eigen::Dynamic, Eigen::Dynamic>;
  using row_major_matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

  CHECK(stores_itself(std::add_pointer_t<owned>{}));
  CHECK(stores_itself(std::add_pointer_t<Eigen::Map<owned>>{}));
  CHECK(stores_itself(std::add_pointer_t<Eigen::Map<const owned>>{}));
  CHECK(stores_itself(std::add_pointer_t<Eigen::Map<const owned, 0, Eigen::OuterStride<>>>{}));
  CHECK(stores_itself(std::add_pointer_t<Eigen::Map<const row_major_matrix>>{}));
  CHECK(stores_itself(std::add_pointer_t<Eigen::Map<const Eigen::RowVectorXf>>{}));
  CHECK(stores_itself(std::add_pointer_t<Eigen::Ref<const owned>>{}));
  CHECK(stores_itself(std::add_pointer_t<ragged<array<float>, std::vector<int>>>{}));
  CHECK(stores_itself(std::add_pointer_t<ragged<Eigen::Map<const array<float>>, std::vector<int>>>{}));

  CHECK(stores_copy(std::add_pointer_t<row_major_matrix>{}));
  CHECK(stores_copy(std::add_pointer_t<Eigen::ArrayXXf>{}));
  CHECK(stores_copy(std::add_pointer_t<Eigen::Map<const Eigen::ArrayXXf>>{}));
  CHECK(stores_copy(std::add_pointer_t<Eigen::Ref<const Eigen::MatrixXf>>{}));
  CHECK(stores_copy(std::add_pointer_t<Eigen::Map<const owned, 0, stride>>{}));
  CHECK(stores_copy(std::add_pointer_t<Eigen::Block<const owned>>{}));
  CHECK(stores_copy(std::add_pointer_t<Eigen::RowVectorXf>{}));
}

TEST_CASE("The concepts accept Eigen objects and tables of float or double only") {
  struct column_of_ones {  // a user's own table
    using Scalar = float;
    array<float> ones = array<float>::Ones(3);
    int rows() const { return 3; }
    Eigen::Map<const array<float>> row(Index p) const { return {ones.data() + p, 1}; }
  };
  struct of_integers : column_of_ones {
    using Scalar = int;
  };
  STATIC_REQUIRE(reference_table<column_of_ones> && reference_rewards<column_of_ones>);
  STATIC_REQUIRE(reference_table<ragged<array<double>, std::vector<int>>>);
  STATIC_REQUIRE(reference_rewards<matrix<float>> && reference_rewards<Eigen::MatrixXd>);
  STATIC_REQUIRE(!reference_table<of_integers> && !reference_rewards<Eigen::ArrayXXi>);
  STATIC_REQUIRE(!reference_rewards<std::vector<std::vector<float>>>);
}
