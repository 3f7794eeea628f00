// SPDX-License-Identifier: MIT
#include "rewards.hpp"

#include <optional>

namespace infalign::python {

namespace {

using namespace py::literals;
using py::arg;

/// The one of beta and kl that is given.
std::variant<at_beta, at_kl> at(const char* function, const std::optional<double>& beta,
                                const std::optional<double>& kl) {
  if (beta.has_value() == kl.has_value()) detail::fail(function, "either beta or kl", beta ? "both" : "neither");
  if (beta) return at_beta{*beta};
  return at_kl{*kl};
}

py::object as_transform(const tabulated& phi) {
  return py::module_::import("infalign._core")
      .attr("tabulated")(copied(phi.u), copied(phi.value),
                         phi.slope.size() > 0 ? py::object(copied(phi.slope)) : py::none());
}

/// A result as an object with these attributes.
template <class... Args>
py::object record(Args&&... attributes) {
  return py::module_::import("types").attr("SimpleNamespace")(**py::dict(std::forward<Args>(attributes)...));
}

py::object best(const transform_with_beta<normalized_exponential>& x) {
  const auto phi = py::module_::import("infalign._core").attr("normalized_exponential")(x.transform.t);
  return record("transform"_a = phi, "t"_a = x.transform.t, "beta"_a = x.beta, "kl"_a = x.kl,
                "win_rate"_a = x.win_rate);
}

/// Functions of the theory that may call Python from any thread release the GIL.
template <class F>
decltype(auto) released(const F& f) {
  const py::gil_scoped_release release;
  return f();
}

template <real_scalar S>
py::object plan(const py::object& reference, const any_procedure& procedure, double kl,
                const std::string& on_unscored) {
  const table<S> rows(reference);
  const auto how = unscored_of(on_unscored);
  const auto x = released([&] { return plan_rewards(rows, procedure, at_kl{kl}, how); });
  any_prior prior{x.prior};
  const auto core = py::module_::import("infalign._core");
  any_calibration shape = make_calibration(reference, py::none(), py::cast(prior), on_unscored);
  const py::object phi = core.attr("normalized_exponential")(x.t);
  shape.transforms = py::cast<any_transform>(phi);
  py::list measured, forecast;
  for (const auto& p : x.measured)
    measured.append(py::dict("count"_a = p.count, "kl"_a = p.kl, "weight"_a = p.weight,
                             "equivalent_count"_a = p.equivalent_count, "t"_a = p.t, "raw"_a = estimate(p.raw),
                             "plain"_a = estimate(p.plain), "prior"_a = estimate(p.prior),
                             "gain"_a = estimate(p.gain)));
  for (const auto& f : x.forecast) forecast.append(py::dict("count"_a = f.count, "win_rate"_a = f.win_rate));
  return record("shape"_a = shape, "beta"_a = x.beta, "t"_a = x.t, "prior"_a = prior, "measured"_a = measured,
                "forecast"_a = forecast);
}

}  // namespace

void bind_theory(py::module_& m) {
  using policy = aligned_policy<any_transform>;
  py::class_<policy>(m, "aligned_policy",
                     "aligned_policy(transform, *, beta=None, kl=None)\n\n"
                     "The policy that training on a transform converges to: p(u) in proportion to exp(phi(u)/beta).")
      .def(py::init([](py::handle phi, const std::optional<double>& beta, const std::optional<double>& kl) {
             const auto chain = transform_of(phi);
             return std::visit(
                 [&](const auto& where) { return released([&] { return std::make_unique<policy>(chain, where); }); },
                 at("aligned_policy", beta, kl));
           }),
           arg("transform"), py::kw_only(), arg("beta") = py::none(), arg("kl") = py::none())
      .def_property_readonly("beta", &policy::beta)
      .def_property_readonly("log_partition", &policy::log_partition)
      .def("kl", &policy::kl, py::call_guard<py::gil_scoped_release>())
      .def("log_density", &policy::log_density, arg("u"), py::call_guard<py::gil_scoped_release>())
      .def("density", &policy::density, arg("u"), py::call_guard<py::gil_scoped_release>())
      .def("cdf", &policy::cdf, arg("u"), py::call_guard<py::gil_scoped_release>())
      .def("quantile", &policy::quantile, arg("q"), py::call_guard<py::gil_scoped_release>())
      .def(
          "win_rate",
          [](const policy& p, py::handle procedure, py::handle reference) {
            const auto use = use_of(procedure, reference);
            return released([&] { return p.win_rate(use); });
          },
          arg("policy"), arg("reference") = py::none(), "Against the reference policy, used as `reference` says.");
  m.def(
      "best_exponential",
      [](py::handle procedure, py::handle reference, double kl, const std::optional<double>& count) {
        const auto use = use_of(procedure, reference);
        return best(released([&] {
          return count ? best_exponential(use, at_kl{kl}, at_count{*count}) : best_exponential(use, at_kl{kl});
        }));
      },
      arg("policy"), arg("reference") = py::none(), py::kw_only(), arg("kl"), arg("count") = py::none(),
      "The normalized_exponential with the highest win rate at a KL: .transform, .t, .beta, .kl, .win_rate. count: of "
      "reference rewards of each prompt.");
  m.def(
      "optimal_transform",
      [](py::handle procedure, py::handle reference, const std::optional<double>& beta,
         const std::optional<double>& kl) {
        const auto use = use_of(procedure, reference);
        const auto x =
            std::visit([&](const auto& where) { return released([&] { return optimal_transform(use, where); }); },
                       at("optimal_transform", beta, kl));
        return record("transform"_a = as_transform(x.transform), "beta"_a = x.beta, "kl"_a = x.kl,
                      "win_rate"_a = x.win_rate, "log_partition"_a = x.log_partition());
      },
      arg("policy"), arg("reference") = py::none(), py::kw_only(), arg("beta") = py::none(), arg("kl") = py::none(),
      "The transform that maximises W - beta KL: .transform, .beta, .kl, .win_rate, .log_partition.");
  m.def(
      "ascent_transform",
      [](py::handle u, py::handle procedure, py::handle reference) {
        return as_transform(ascent_transform(read_rows<double>("u", u).as_matrix(), use_of(procedure, reference)));
      },
      arg("u"), arg("policy"), arg("reference") = py::none(),
      "The transform along which the win rate of the policy that u came from rises fastest.");
  m.def(
      "log_partition",
      [](py::handle phi, double beta, const std::optional<double>& count, py::handle rank) {
        const auto chain = transform_of(phi);
        if (!count) {
          if (chain.stages.size() == 1)
            if (const auto* exact = std::get_if<identity>(&chain.stages[0]))
              return log_partition(*exact, at_beta{beta});
          return released([&] { return log_partition(chain, at_beta{beta}); });
        }
        return std::visit([&](const auto& r) { return log_partition(chain, at_beta{beta}, at_count{*count}, r); },
                          rank_of(rank));
      },
      arg("transform"), arg("beta"), py::kw_only(), arg("count") = py::none(), arg("rank") = py::none(),
      "log Z = log of the integral of e^(phi(u)/beta): the target of a regression is phi(u) - beta log Z. Never "
      "over-estimate it.");
  m.def(
      "log_mean_partition",
      [](py::handle phi, double beta, double count, py::handle rank) {
        return std::visit(
            [&](const auto& r) { return log_mean_partition(transform_of(phi), at_beta{beta}, at_count{count}, r); },
            rank_of(rank));
      },
      arg("transform"), arg("beta"), py::kw_only(), arg("count"), arg("rank") = py::none(),
      "The logarithm of the mean of Z over reference samples of size count.");
  m.def(
      "optimal_values",
      [](const py::object& reference, double beta, const std::string& on_unscored) {
        return with_scalar(reference, [&]<class S>(S) {
          return copied(optimal_values(table<S>(reference), at_beta{beta}, unscored_of(on_unscored)));
        });
      },
      arg("reference"), arg("beta"), py::kw_only(), arg("unscored") = "error",
      "beta times the log of the mean of e^(r/beta) over each prompt's reference rewards: V of A*-PO.");

  py::class_<finite_policies>(
      m, "finite_policies",
      "finite_policies(scores, *, beta=None, kl=None)\n\n"
      "The aligned policies of any scores of a log's responses, P x M: with the KL of each prompt.")
      .def(py::init([](py::handle scores, const std::optional<double>& beta, const std::optional<double>& kl) {
             const table<double> rows(scores);
             return std::visit([&](const auto& where) { return finite_policies(rows, where); },
                               at("finite_policies", beta, kl));
           }),
           arg("scores"), py::kw_only(), arg("beta") = py::none(), arg("kl") = py::none())
      .def_property_readonly("beta", &finite_policies::beta)
      .def("__len__", &finite_policies::prompts)
      .def(
          "probability",
          [](const finite_policies& p, Index prompt) {
            if (prompt < 0 || prompt >= p.prompts()) throw py::index_error("no such prompt");
            return copied(p.probability(prompt));
          },
          arg("prompt"))
      .def(
          "kl", [](const finite_policies& p) { return copied(p.kl()); }, "The KL of each prompt.")
      .def(
          "win_rates",
          [](const finite_policies& p, py::handle rewards, py::handle procedure, py::handle reference) {
            const auto of_policy = procedure_of(procedure);
            return copied(p.win_rates(table<double>(rewards), of_policy,
                                      reference.is_none() ? of_policy : procedure_of(reference)));
          },
          arg("rewards"), arg("policy"), arg("reference") = py::none())
      .def(
          "means", [](const finite_policies& p, py::handle values) { return copied(p.means(table<double>(values))); },
          arg("values"), "The mean of a value of each response under each prompt's policy.");
  m.def(
      "plan_rewards",
      [](const py::object& reference, py::handle procedure, double kl, const std::string& on_unscored) {
        return with_scalar(reference,
                           [&]<class S>(S) { return plan<S>(reference, procedure_of(procedure), kl, on_unscored); });
      },
      arg("reference"), arg("procedure"), py::kw_only(), arg("kl"), arg("unscored") = "error",
      "What to train with for a procedure and a KL: .shape, .beta, .t, .prior, .measured, .forecast. Takes seconds.");
}

}  // namespace infalign::python
