// SPDX-License-Identifier: MIT
#include "parts.hpp"

namespace infalign::python {

std::string text_of(const made_by& m) {
  std::string result = m.name + "(";
  bool first = true;
  for (const auto& [key, value] : m.arguments) {
    result += (first ? "" : ", ") + std::string(py::str(key)) + "=" + std::string(py::repr(value));
    first = false;
  }
  return result + ")";
}

py::object argument(const made_by& m, const std::string& name) {
  if (m.arguments.contains(name.c_str())) return m.arguments[name.c_str()];
  throw py::attribute_error(m.name + " has no parameter \"" + name + "\"");
}

py::tuple reduced(const std::vector<made_by>& made) {
  py::list parts;
  for (const auto& m : made) parts.append(py::make_tuple(m.name, m.arguments));
  return py::make_tuple(py::module_::import("infalign.pickling").attr("make"), py::make_tuple(parts));
}

namespace {

/// A transform of one stage.
template <class Phi>
any_transform made(const char* name, Phi phi, const py::dict& arguments) {
  if constexpr (!std::same_as<Phi, callback>) detail::check_part<double>(phi);
  return {{std::move(phi)}, {{name, arguments}}};
}

template <class Rank>
any_rank made_rank(const char* name, Rank rank, const py::dict& arguments) {
  detail::check_part(rank);
  return {any_rank_function{std::move(rank)}, {name, arguments}};
}

template <class P>
any_procedure made_procedure(const char* name, P procedure, const py::dict& arguments) {
  detail::check_part(procedure);
  return {std::move(procedure), {name, arguments}};
}

array<double> numbers(const char* what, py::handle values) {
  return read_rows<double>(what, values).as_column();
}

}  // namespace

any_transform transform_of(py::handle phi) {
  if (py::isinstance<any_transform>(phi)) return phi.cast<any_transform>();
  if (py::hasattr(phi, "transform")) return transform_of(phi.attr("transform"));  // an optimum, a best exponential
  if (!PyCallable_Check(phi.ptr()))
    throw py::type_error("expected a transform or a function of an array, got " + std::string(py::repr(phi)));
  return made("function", callback(py::reinterpret_borrow<py::object>(phi)), py::dict(py::arg("f") = phi));
}

void any_transform::append(py::handle next) {
  const auto b = transform_of(next);
  stages.insert(stages.end(), b.stages.begin(), b.stages.end());
  made.insert(made.end(), b.made.begin(), b.made.end());
}

std::variant<simple_rank, any_rank_function> rank_of(py::handle rank) {
  if (rank.is_none()) return default_rank;
  if (py::isinstance<any_rank>(rank)) return rank.cast<const any_rank&>().rank;
  throw py::type_error("expected a rank such as mid_rank(), got " + std::string(py::repr(rank)));
}

any_procedure procedure_of(py::handle procedure) {
  if (py::isinstance<any_procedure>(procedure)) return procedure.cast<any_procedure>();
  throw py::type_error("expected a procedure such as best_of(4), got " + std::string(py::repr(procedure)));
}

any_use use_of(py::handle policy, py::handle reference) {
  if (py::isinstance<any_use>(policy)) {
    if (!reference.is_none()) throw py::type_error("a mixed_use has the procedures of the reference in it");
    return policy.cast<any_use>();
  }
  const auto of_policy = procedure_of(policy);
  return {{user_share<any_procedure>(1, of_policy, reference.is_none() ? of_policy : procedure_of(reference))}};
}

template <real_scalar S>
void any_transform::check(S) const {
  for (const auto& s : stages) std::visit([](const auto& phi) { detail::check_part<S>(phi); }, s);
}
template <real_scalar S>
S any_transform::operator()(S u) const {
  for (const auto& s : stages) u = std::visit([u](const auto& phi) { return static_cast<S>(phi(u)); }, s);
  return u;
}
template <real_scalar S>
void any_transform::apply(const detail::rows_view<S>& rows, Index columns, unscored on_unscored,
                          detail::domain first) const {
  detail::transform_call how{{"transform", on_unscored}, first, columns};
  for (const auto& s : stages) {
    if (const auto* f = std::get_if<callback>(&s)) {
      detail::transform_rows<S>(how, identity{}, rows, rows);  // checks the numbers
      py::array_t<S> u(rows.size());
      for (Index r = 0; r < rows.rows; ++r) std::copy_n(rows.row(r), rows.columns, u.mutable_data() + r * rows.columns);
      const array<S> y = read_rows<S>("values of a transform", f->function()(u)).one_by_one();
      if (y.size() != rows.size())
        detail::fail("transform", detail::concat(rows.size(), " values from the function, one for each number"),
                     detail::concat(y.size()));
      for (Index r = 0; r < rows.rows; ++r)
        for (Index c = 0; c < rows.columns; ++c) {
          const S value = y[r * rows.columns + c];
          if (!detail::is_finite(value) && !detail::is_nan(rows.row(r)[c]))
            detail::fail("transform", "a finite value of the transform",
                         detail::concat(value, " for ", rows.row(r)[c]));
          rows.row(r)[c] = detail::is_nan(rows.row(r)[c]) ? rows.row(r)[c] : value;
        }
    } else {
      std::visit(
          [&]<class F>(const F& phi) {
            if constexpr (!std::same_as<F, callback>) detail::transform_rows<S>(how, phi, rows, rows);
          },
          s);
    }
    how = {{"transform", unscored::propagate}, detail::domain::any, columns};
  }
}

template void any_transform::check(float) const;
template void any_transform::check(double) const;
template float any_transform::operator()(float) const;
template double any_transform::operator()(double) const;
template void any_transform::apply(const detail::rows_view<float>&, Index, unscored, detail::domain) const;
template void any_transform::apply(const detail::rows_view<double>&, Index, unscored, detail::domain) const;

void any_procedure::check() const {
  std::visit([](const auto& p) { detail::check_part(p); }, procedure);
}
double any_procedure::cdf(double u) const {
  return std::visit([u](const auto& p) { return p.cdf(u); }, procedure);
}
double any_procedure::density(double u) const {
  return std::visit([u](const auto& p) { return p.density(u); }, procedure);
}

namespace {

/// f of a procedure that draws a known number of responses.
template <class Result, class F>
Result of_samples(const any_procedure& procedure, const F& f) {
  return std::visit(
      [&]<class P>(const P& p) -> Result {
        if constexpr (sample_procedure<P>)
          return f(p);
        else
          detail::fail("infalign", "a procedure that draws a known number of responses", "one from a CDF");
      },
      procedure.procedure);
}

template <class F>
double total(const any_use& use, const F& f) {
  double sum = 0;
  for (const auto& s : use.shares) sum += f(s);
  return sum;
}

}  // namespace

Index any_procedure::sample_size() const {
  return of_samples<Index>(*this, [](const auto& p) { return p.sample_size(); });
}
double any_procedure::sample_cdf(Index below, Index count) const {
  return of_samples<double>(*this, [&](const auto& p) { return p.sample_cdf(below, count); });
}

void any_use::check() const {
  double sum = 0;
  for (const auto& s : shares) s.check(), sum += s.share;
  if (!(std::abs(sum - 1) <= 1e-9)) detail::fail("mixed_use", "shares that sum to 1", detail::concat(sum));
}
double any_use::loss(double F, double u) const {
  return total(*this, [=](const auto& s) { return s.loss(F, u); });
}
double any_use::slope(double F, double u) const {
  return total(*this, [=](const auto& s) { return s.slope(F, u); });
}
double any_use::rise(double F, double from, double to) const {
  return total(*this, [=](const auto& s) { return s.rise(F, from, to); });
}
bool any_use::convex() const {
  bool result = true;
  for (const auto& s : shares) result = result && s.convex();
  return result;
}

void bind_parts(py::module_& m) {
  using py::arg;
  using namespace py::literals;

  py::class_<any_transform>(m, "Transform", "A transform of calibrated rewards. `a | b` is b after a.")
      .def(
          "__call__", [](const any_transform& phi, double u) { return phi(u); }, "The value at u.")
      .def("__or__",
           [](const any_transform& a, py::handle next) {
             any_transform result = a;
             result.append(next);
             return result;
           })
      .def("__getattr__", [](const any_transform& phi, const std::string& name) { return argument(phi.made[0], name); })
      .def("__reduce__", [](const any_transform& phi) { return reduced(phi.made); })
      .def("__repr__", [](const any_transform& phi) {
        std::string text;
        for (const auto& one : phi.made) text += (text.empty() ? "" : " | ") + text_of(one);
        return text;
      });
  m.def(
      "identity", [] { return made("identity", identity{}, {}); }, "u: best for one sample.");
  m.def(
      "logarithm", [] { return made("logarithm", logarithm{}, {}); }, "log u; calibrate with add_one_rank().");
  m.def(
      "exponential", [](double t) { return made("exponential", exponential{t}, py::dict("t"_a = t)); }, arg("t"),
      "e^(t u) for t > 0 (best-of-N), -e^(t u) for t < 0 (worst-of-N). Its range is e^t: many trainers clip rewards, "
      "so prefer normalized_exponential.");
  m.def(
      "normalized_exponential",
      [](double t) { return made("normalized_exponential", normalized_exponential{t}, py::dict("t"_a = t)); }, arg("t"),
      "(e^(t u) - 1)/(e^t - 1), in [0, 1]: t > 0 for best-of-N, t < 0 for worst-of-N.");
  m.def(
      "power", [](double exponent) { return made("power", power{exponent}, py::dict("exponent"_a = exponent)); },
      arg("exponent"), "u^exponent.");
  m.def(
      "soft_logarithm",
      [](int n, double lambda) {
        return made("soft_logarithm", soft_logarithm{n, lambda}, py::dict("n"_a = n, "lambda_"_a = lambda));
      },
      arg("n"), arg("lambda_"),
      "log(1 + (e^(lambda/n) - 1) u): with beta = 1/(n - 1) the policy is soft_best_of(n, lambda).");
  m.def(
      "tabulated",
      [](py::handle u, py::handle value, py::handle slope) {
        tabulated phi{numbers("u", u), numbers("value", value), {}};
        if (!slope.is_none()) phi.slope = numbers("slope", slope);
        const py::dict arguments("u"_a = copied(phi.u), "value"_a = copied(phi.value),
                                 "slope"_a = phi.slope.size() > 0 ? py::object(copied(phi.slope)) : py::none());
        return made("tabulated", phi, arguments);
      },
      arg("u"), arg("value"), arg("slope") = py::none(), "A transform from its values at knots from 0 to 1.");

  py::class_<any_rank>(m, "Rank", "A rank functor: the calibrated reward from counts.")
      .def(
          "__call__",
          [](const any_rank& r, Index below, Index tied, Index count) {
            return std::visit([&](const auto& rank) { return rank(below, tied, count); }, r.rank);
          },
          arg("below"), arg("tied"), arg("count"))
      .def("__reduce__", [](const any_rank& r) { return reduced({r.made}); })
      .def("__repr__", [](const any_rank& r) { return text_of(r.made); });
  const auto simple = [&](const char* name, const simple_rank& rank, const char* text) {
    m.def(
        name,
        [name, rank] {
          return any_rank{rank, {name, {}}};
        },
        text);
  };
  simple("mid_rank", default_rank, "(below + tied/2)/count, the default.");
  simple("strict_rank", {0, 0}, "below/count.");
  simple("weak_rank", {1, 0}, "(below + tied)/count.");
  simple("add_one_rank", {0, 1}, "(below + 1)/(count + 1): never 0.");
  m.def(
      "win_probability",
      [](py::handle p) {
        return made_rank("win_probability", win_probability{procedure_of(p)}, py::dict("procedure"_a = p));
      },
      arg("procedure"), "The probability to beat what a procedure outputs.");
  m.def(
      "unbiased_power",
      [](int power) { return made_rank("unbiased_power", unbiased_power{power}, py::dict("m"_a = power)); }, arg("m"),
      "Without bias for C^m.");
  m.def(
      "unbiased_win_probability",
      [](py::handle p) {
        return made_rank("unbiased_win_probability", unbiased_win_probability{procedure_of(p)},
                         py::dict("procedure"_a = p));
      },
      arg("procedure"), "Without bias for win_probability.");
  m.def(
      "unbiased_exponential",
      [](double t, double tolerance) {
        return made_rank("unbiased_exponential", unbiased_exponential{t, tolerance},
                         py::dict("t"_a = t, "tolerance"_a = tolerance));
      },
      arg("t"), arg("tolerance") = 1e-3, "Without bias for e^(t C), within a relative tolerance.");
  m.def(
      "partition_rank",
      [](py::handle phi, double beta) {
        return made_rank("partition_rank", partition_rank<any_transform>{transform_of(phi), beta},
                         py::dict("transform"_a = phi, "beta"_a = beta));
      },
      arg("transform"), arg("beta"), "The transform is in the rank; exact for log_mean_partition, with ties too.");

  py::class_<any_procedure>(m, "Procedure", "An inference-time procedure.")
      .def("cdf", &any_procedure::cdf, arg("u"), "G(u).")
      .def("density", &any_procedure::density, arg("u"), "g(u), the derivative of G.")
      .def("sample_size", &any_procedure::sample_size, "The number of responses that it draws.")
      .def("sample_cdf", &any_procedure::sample_cdf, arg("below"), arg("count"))
      .def("__getattr__", [](const any_procedure& p, const std::string& name) { return argument(p.made, name); })
      .def("__reduce__", [](const any_procedure& p) { return reduced({p.made}); })
      .def("__repr__", [](const any_procedure& p) { return text_of(p.made); });
  m.def(
      "plain_sampling", [] { return made_procedure("plain_sampling", plain_sampling{}, {}); }, "One response.");
  m.def(
      "best_of", [](int n) { return made_procedure("best_of", best_of{n}, py::dict("n"_a = n)); }, arg("n"),
      "The best of n responses.");
  m.def(
      "worst_of", [](int n) { return made_procedure("worst_of", worst_of{n}, py::dict("n"_a = n)); }, arg("n"),
      "The worst of n responses, as an attacker picks it.");
  m.def(
      "order_statistic",
      [](int k, int n) {
        return made_procedure("order_statistic", order_statistic{k, n}, py::dict("k"_a = k, "n"_a = n));
      },
      arg("k"), arg("n"), "The k-th smallest of n responses.");
  m.def(
      "soft_best_of",
      [](int n, double lambda) {
        return made_procedure("soft_best_of", soft_best_of{n, lambda}, py::dict("n"_a = n, "lambda_"_a = lambda));
      },
      arg("n"), arg("lambda_"), "The k-th smallest of n responses in proportion to e^(lambda k/n).");
  m.def(
      "random_best_of",
      [](py::handle weight) {
        return made_procedure("random_best_of", random_best_of{numbers("weight", weight)},
                              py::dict("weight"_a = weight));
      },
      arg("weight"), "The best of N responses, with the probability of each N from 1 on.");
  m.def(
      "best_of_poisson",
      [](double lambda) {
        return made_procedure("best_of_poisson", best_of_poisson{lambda}, py::dict("lambda_"_a = lambda));
      },
      arg("lambda_"), "The best of 1 + Poisson(lambda) responses.");
  m.def(
      "from_cdf",
      [](py::object cdf) {
        const from_cdf procedure{callback(cdf)};
        procedure.check();
        return any_procedure{procedure, {"from_cdf", py::dict("cdf"_a = cdf)}};
      },
      arg("cdf"), "A procedure from its CDF, a function of u.");
  m.def(
      "order_weights", [](py::handle p) { return copied(order_weights(procedure_of(p))); }, arg("procedure"),
      "The probability that a procedure outputs the k-th smallest of the n responses that it draws.");

  py::class_<any_use>(m, "MixedUse", "Several uses of a policy, with the share of each.")
      .def("__reduce__", [](const any_use& u) {
        py::list shares;
        for (const auto& s : u.shares) shares.append(py::make_tuple(s.share, s.policy, s.reference));
        return py::make_tuple(py::module_::import("infalign.pickling").attr("mixed_use"), py::make_tuple(shares));
      });
  m.def(
      "mixed_use",
      [](const py::iterable& shares) {
        any_use result;
        for (const py::handle one : shares) {
          const auto parts = one.cast<py::tuple>();
          if (parts.size() != 2 && parts.size() != 3)
            detail::fail("mixed_use", "(share, procedure) or (share, procedure, procedure of the reference)",
                         std::string(py::repr(one)));
          const auto policy = procedure_of(parts[1]);
          result.shares.emplace_back(parts[0].cast<double>(), policy,
                                     parts.size() == 3 ? procedure_of(parts[2]) : policy);
        }
        result.check();
        return result;
      },
      arg("shares"), "Several uses at once: [(0.5, plain_sampling()), (0.5, best_of(8))].");
}

}  // namespace infalign::python

PYBIND11_MODULE(_core, m) {
  m.doc() = "The functions of infalign. Import infalign instead.";
  // A mistake is a ValueError with the library's text: pybind11 makes it of std::invalid_argument.
  infalign::python::bind_parts(m);
  infalign::python::bind_measures(m);
  infalign::python::bind_rewards(m);
  infalign::python::bind_theory(m);
  infalign::python::bind_step(m);
  infalign::python::bind_checks(m);
}
