// SPDX-License-Identifier: MIT
#include "parts.hpp"

namespace infalign::python {

namespace {

using py::arg;

/// Both arguments as tables of one scalar type: float if both are.
template <class F>
auto with_tables(py::handle a, py::handle b, const F& f) {
  if (is_single(a) && is_single(b)) return f(table<float>(a), table<float>(b));
  return f(table<double>(a), table<double>(b));
}

py::list estimates(const std::vector<mean_estimate>& curve) {
  py::list result;
  for (const auto& e : curve) result.append(estimate(e));
  return result;
}

any_procedure reference_of(const any_procedure& policy, py::handle reference) {
  return reference.is_none() ? policy : procedure_of(reference);
}

/// Calls f.template operator()<best_of>() or <worst_of>.
template <class F>
auto with_family(const std::string& name, const F& f) {
  if (name == "best_of") return f.template operator()<best_of>();
  if (name == "worst_of") return f.template operator()<worst_of>();
  detail::fail("infalign", "a family of \"best_of\" or \"worst_of\"", "\"" + name + "\"");
}

}  // namespace

namespace {
py::object* estimate_type = nullptr;  // a named tuple, made when the module is loaded, and never destroyed
}  // namespace

py::object estimate(const mean_estimate& e) {
  return (*estimate_type)(e.mean, e.standard_error, e.low, e.high, e.prompts);
}

void bind_measures(py::module_& m) {
  const auto named = py::module_::import("collections").attr("namedtuple");
  m.attr("mean_estimate") =
      named("mean_estimate", "mean standard_error low high prompts", arg("module") = "infalign._core");
  estimate_type = new py::object(m.attr("mean_estimate"));
  m.def(
      "win_rates",
      [](py::handle policy, py::handle reference, py::handle procedure, py::handle of_reference,
         const std::string& on_unscored) {
        const auto used = procedure_of(procedure);
        return with_tables(policy, reference, [&](const auto& a, const auto& b) {
          return copied(win_rates(a, b, used, reference_of(used, of_reference), unscored_of(on_unscored)));
        });
      },
      arg("policy"), arg("reference"), arg("procedure"), arg("reference_procedure") = py::none(), py::kw_only(),
      arg("unscored") = "error",
      "One unbiased estimate of the win rate for each prompt, from rewards P x M of the policy and P x K of the "
      "reference. Do not use references that calibrated the training.");
  m.def(
      "win_rate",
      [](py::handle policy, py::handle reference, py::handle procedure, py::handle of_reference,
         const std::string& on_unscored) {
        const auto used = procedure_of(procedure);
        return with_tables(policy, reference, [&](const auto& a, const auto& b) {
          return estimate(win_rate(a, b, used, reference_of(used, of_reference), unscored_of(on_unscored)));
        });
      },
      arg("policy"), arg("reference"), arg("procedure"), arg("reference_procedure") = py::none(), py::kw_only(),
      arg("unscored") = "error", "The mean of win_rates: .mean, .standard_error, .low, .high, .prompts.");
  m.def(
      "win_rate_curve",
      [](py::handle policy, py::handle reference, const std::string& family, const std::string& on_unscored) {
        return with_tables(policy, reference, [&](const auto& a, const auto& b) {
          return with_family(family,
                             [&]<class T>() { return estimates(win_rate_curve<T>(a, b, unscored_of(on_unscored))); });
        });
      },
      arg("policy"), arg("reference"), arg("family") = "best_of", py::kw_only(), arg("unscored") = "error",
      "win_rate for n = 1, 2, ...");
  m.def(
      "shown_values",
      [](py::handle scores, py::handle values, py::handle procedure, const std::string& on_unscored) {
        return with_tables(scores, values, [&](const auto& a, const auto& b) {
          return copied(shown_values(a, b, procedure_of(procedure), unscored_of(on_unscored)));
        });
      },
      arg("scores"), arg("values"), arg("procedure"), py::kw_only(), arg("unscored") = "error",
      "The mean value of what a procedure outputs if it chooses by score, for each prompt.");
  m.def(
      "shown_value",
      [](py::handle scores, py::handle values, py::handle procedure, const std::string& on_unscored) {
        return with_tables(scores, values, [&](const auto& a, const auto& b) {
          return estimate(shown_value(a, b, procedure_of(procedure), unscored_of(on_unscored)));
        });
      },
      arg("scores"), arg("values"), arg("procedure"), py::kw_only(), arg("unscored") = "error",
      "The mean of shown_values.");
  m.def(
      "shown_value_curve",
      [](py::handle scores, py::handle values, const std::string& family, const std::string& on_unscored) {
        return with_tables(scores, values, [&](const auto& a, const auto& b) {
          return with_family(
              family, [&]<class T>() { return estimates(shown_value_curve<T>(a, b, unscored_of(on_unscored))); });
        });
      },
      arg("scores"), arg("values"), arg("family") = "best_of", py::kw_only(), arg("unscored") = "error",
      "shown_value for n = 1, 2, ...: where does the true reward peak?");
  m.def(
      "exact_win_rate",
      [](py::handle rewards, py::handle policy, py::handle reference, py::handle procedure, py::handle of_reference) {
        const auto used = procedure_of(procedure);
        return exact_win_rate(
            read_rows<double>("rewards", rewards).as_column(), read_rows<double>("policy", policy).as_column(),
            read_rows<double>("reference", reference).as_column(), used, reference_of(used, of_reference));
      },
      arg("rewards"), arg("policy"), arg("reference"), arg("procedure"), arg("reference_procedure") = py::none(),
      "The win rate of a policy over a finite set of responses, from their probabilities.");
  m.def(
      "mean_over_prompts",
      [](py::handle values) { return estimate(mean_over_prompts(read_rows<double>("values", values).as_column())); },
      arg("values"), "Mean, standard error and 95 % interval of one number for each prompt.");
  m.def(
      "kl_divergence",
      [](py::handle now, py::handle reference) {
        return estimate(kl_divergence(read_rows<double>("log_probabilities", now).as_matrix(),
                                      read_rows<double>("reference_log_probabilities", reference).as_matrix()));
      },
      arg("log_probabilities"), arg("reference_log_probabilities"),
      "From log-probabilities of whole responses, P x M.");
  m.def(
      "drift",
      [](py::handle reference, py::handle rewards, py::handle prompt, const std::string& on_unscored) {
        return with_scalar(reference, [&]<class S>(S) {
          const table<S> rows(reference);
          const auto given = read_rows<S>("rewards", rewards);
          const auto how = unscored_of(on_unscored);
          const auto d = prompt.is_none() ? drift(rows, given.as_matrix(), how)
                                          : drift(rows, indices(prompt).view(), given.as_column(), how);
          return py::module_::import("types").attr("SimpleNamespace")(
              **py::dict(arg("distance") = d.distance, arg("p_value") = d.p_value, arg("mean") = d.mean,
                         arg("effective_size") = d.effective_size));
        });
      },
      arg("reference"), arg("rewards"), arg("prompt") = py::none(), py::kw_only(), arg("unscored") = "error",
      "Is the table stale? .p_value, .distance, .mean, .effective_size.");
}

}  // namespace infalign::python
