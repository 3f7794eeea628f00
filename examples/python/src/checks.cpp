// SPDX-License-Identifier: MIT
// infalign.checks: the checks of infalign/testing.hpp, of functions in Python.
#include "parts.hpp"

#include <infalign/testing.hpp>

namespace infalign::python {

namespace {

using namespace py::literals;
using checks::report;
using py::arg;

/// KeyboardInterrupt and the like, which end a check. It is no std::exception, which would be a finding.
struct interrupted {
  py::error_already_set error;
};

/// f(), whose Python exceptions become a C++ one with a short text.
template <class F>
auto called(const F& f) {
  try {
    return f();
  } catch (py::error_already_set& error) {
    if (!error.matches(PyExc_Exception)) throw interrupted{error};
    throw std::runtime_error(error.type().attr("__name__").cast<std::string>() + ": " +
                             py::str(error.value()).cast<std::string>());
  }
}

/// A check, which an interrupt leaves as the Python exception that it is.
template <class F>
report run(const F& check) {
  try {
    return check();
  } catch (interrupted& stop) {
    throw stop.error;
  }
}

/// The results of a function: a number for each response, or P × M.
array<double> results_of(py::handle given) {
  return read_rows<double>("results of the function", given).one_by_one();
}

matrix<double> matrix_of(const char* what, py::handle given) {
  const auto rows = read_rows<double>(what, given);
  if (rows.flat) detail::fail("infalign", detail::concat(what, " of two dimensions, B x T"), "one dimension");
  return rows.as_matrix();
}

py::array_t<std::int64_t> prompts_of(const std::vector<int>& prompt) {
  py::array_t<std::int64_t> result(static_cast<py::ssize_t>(prompt.size()));
  std::copy(prompt.begin(), prompt.end(), result.mutable_data());
  return result;
}

/// The function under test. `flat`: it takes prompts too.
struct any_pipeline {
  py::object function;
  std::vector<checks::input> inputs{{}};
  bool flat = false;
  Index smallest_group = 1;

  checks::pipeline made() const {
    return {[this](const checks::response_batch& b) {
              return called([&] {
                py::list arguments;
                for (const auto& in : b.inputs)
                  arguments.append(flat ? py::object(copied(b[in.name])) : py::object(copied(b.as_matrix(in.name))));
                if (flat) arguments.append(prompts_of(b.prompt));
                return results_of(function(*py::tuple(arguments)));
              });
            },
            inputs, !flat, smallest_group};
  }
};

any_pipeline pipeline_of(py::handle f) {
  if (py::isinstance<any_pipeline>(f)) return f.cast<any_pipeline>();
  return {py::reinterpret_borrow<py::object>(f)};
}

/// The arguments of a step: step(rewards, prompt, log_probabilities=..., ...).
py::object call_step(const py::object& function, const checks::token_case& c) {
  py::dict tokens("log_probabilities"_a = copied(c.log_probabilities),
                  "reference_log_probabilities"_a = copied(c.reference_log_probabilities), "mask"_a = copied(c.mask));
  if (c.off_policy) tokens["old_log_probabilities"] = copied(c.old_log_probabilities);
  return function(copied(c.rewards), prompts_of(c.prompt), **tokens);
}

/// A gradient, or a result that has one.
matrix<double> gradient_of(const py::object& result) {
  return matrix_of("gradient", py::hasattr(result, "gradient") ? result.attr("gradient") : result);
}

checks::training_step step_of(const py::object& function, Index smallest_group) {
  return {
      [&function](const checks::token_case& c) { return called([&] { return gradient_of(call_step(function, c)); }); },
      smallest_group};
}

checks::scope scope_of(const std::string& name) {
  return with_name<checks::scope>("checks", "a scope of \"prompt\" or \"batch\"", {"prompt", "batch"}, name);
}

checks::divergence divergence_of(const std::string& name) {
  return with_name<checks::divergence>("checks", "a divergence of \"reverse\" or \"forward\"", {"reverse", "forward"},
                                       name);
}

py::dict counterexample(const report& r) {
  py::dict result;
  for (std::size_t c = 0; c < r.counterexample.names.size(); ++c)
    result[r.counterexample.names[c].c_str()] = copied(r.counterexample.columns[c]);
  return result;
}

using options = checks::options;

/// Defines check(f, options, arguments...). Each kind of check and of arguments is compiled once.
template <class... Args, class Check, class... Names>
void define_check(py::module_& m, const char* name, const Check& check, const char* text, const Names&... names) {
  const options usual;
  m.def(
      name,
      [check](const py::object& f, Args... args, std::uint64_t seed, int cases, double tolerance, int simplifications) {
        return run([&] { return check(f, options{seed, cases, tolerance, simplifications}, args...); });
      },
      arg("f"), names..., py::kw_only(), arg("seed") = usual.seed, arg("cases") = usual.cases,
      arg("tolerance") = usual.tolerance, arg("simplifications") = usual.simplifications, text);
}

/// The same for a check of pipelines.
template <class... Args, class... Names>
void define(py::module_& m, const char* name, report (*check)(const any_pipeline&, const options&, Args...),
            const char* text, const Names&... names) {
  const auto of_pipeline = [check](const py::object& f, const options& o, const Args&... args) {
    return check(pipeline_of(f), o, args...);
  };
  define_check<Args...>(m, name, of_pipeline, text, names...);
}

}  // namespace

void bind_checks(py::module_& core) {
  auto m = core.def_submodule("checks", "Checks for unit tests of reward pipelines.");
  py::class_<report>(m, "report", "What a check found. True if it passed; its text has the counterexample.")
      .def("__bool__", [](const report& r) { return r.passed; })
      .def("__str__", [](const report& r) { return checks::to_string(r); })
      .def("__repr__", [](const report& r) { return checks::to_string(r); })
      .def_readonly("check", &report::check)
      .def_readonly("passed", &report::passed)
      .def_readonly("cases", &report::cases)
      .def_readonly("seed", &report::seed)
      .def_readonly("finding", &report::finding, "What is wrong, in a sentence.")
      .def_property_readonly("counterexample", &counterexample, "The smallest that was found: arrays by their names.")
      .def_readonly("prompts", &report::prompts)
      .def_readonly("responses", &report::responses);
  py::class_<checks::input>(m, "input", "An input of the function under test, and what is drawn for it.")
      .def(py::init<std::string, double, double, double>(), arg("name") = "reward", arg("low") = -4.0,
           arg("high") = 4.0, arg("step") = 0.125);
  py::class_<any_pipeline>(
      m, "pipeline",
      "pipeline(f, inputs=None, flat=False, smallest_group=1)\n\n"
      "The function under test: f(reward, ...) with P x M arrays, or flat: f(reward, ..., prompt).\n"
      "It returns a number for each response. inputs: names or input(); by default the reward.")
      .def(py::init([](py::object f, const py::object& inputs, bool flat, Index smallest_group) {
             any_pipeline result{std::move(f), {{}}, flat, smallest_group};
             if (inputs.is_none()) return result;
             result.inputs.clear();
             for (const py::handle one : inputs)
               result.inputs.push_back(py::isinstance<py::str>(one) ? checks::input{one.cast<std::string>()}
                                                                    : one.cast<checks::input>());
             return result;
           }),
           arg("f"), arg("inputs") = py::none(), arg("flat") = false, arg("smallest_group") = 1);

  using on = const any_pipeline&;
  using how = const options&;
  const auto reward = arg("name") = "reward";
  const auto plain = [&](const char* name, report (*check)(on, how), const char* about) {
    define(m, name, check, about);
  };
  const auto named = [&](const char* name, report (*check)(on, how, std::string), const char* about) {
    define(m, name, check, about, reward);
  };
  const auto ordered = [&](const char* name, report (*check)(on, how, std::string, bool), const char* about) {
    define(m, name, check, about, reward, arg("strictly") = false);
  };
  const auto scoped = [&](const char* name, report (*check)(on, how, std::string, std::string), const char* about) {
    define(m, name, check, about, reward, arg("scope") = "prompt");
  };

  // Values.
  define(
      m, "in_range", +[](on f, how o, double low, double high) { return checks::in_range(f.made(), low, high, o); },
      "All results are from low to high.", arg("low"), arg("high"));
  plain(
      "finite", [](on f, how o) { return checks::finite(f.made(), o); }, "All results are finite.");
  plain(
      "zero_mean", [](on f, how o) { return checks::zero_mean(f.made(), o); },
      "The results of each prompt have the mean 0.");
  plain(
      "zero_for_equal_responses", [](on f, how o) { return checks::zero_for_equal_responses(f.made(), o); },
      "If all responses to a prompt are equal, their results are 0.");
  define(
      m, "keeps_unscored",
      +[](on f, how o, std::string name, double expected) {
        return checks::keeps_unscored(f.made(), name, expected, o);
      },
      "A response with a NaN input has the result `expected`.", reward, arg("expected") = detail::nan<double>);
  named(
      "ignores_unscored", [](on f, how o, std::string name) { return checks::ignores_unscored(f.made(), name, o); },
      "A NaN input moves no result of other responses.");
  define(
      m, "rejects",
      +[](on f, how o, std::string name, double wrong) { return checks::rejects(f.made(), name, wrong, o); },
      "An input that is wrong (NaN, or an infinity) is refused with an exception.", reward,
      arg("wrong") = detail::nan<double>);
  plain(
      "deterministic", [](on f, how o) { return checks::deterministic(f.made(), o); },
      "A batch that is computed again has the same results, bit for bit.");

  // Order.
  ordered(
      "increasing",
      [](on f, how o, std::string name, bool strictly) { return checks::increasing(f.made(), name, strictly, o); },
      "If an input rises, the result does not fall; strictly: it rises.");
  ordered(
      "decreasing",
      [](on f, how o, std::string name, bool strictly) { return checks::decreasing(f.made(), name, strictly, o); },
      "If an input rises, the result does not rise; strictly: it falls.");
  named(
      "keeps_order", [](on f, how o, std::string name) { return checks::keeps_order(f.made(), name, o); },
      "Of two responses to a prompt that differ in one input, the one with more of it has no smaller result.");
  named(
      "dominates", [](on f, how o, std::string name) { return checks::dominates(f.made(), name, o); },
      "More of an input never gives a smaller result, whatever the other inputs are.");
  named(
      "keeps_ties", [](on f, how o, std::string name) { return checks::keeps_ties(f.made(), name, o); },
      "Equal inputs have equal results.");
  named(
      "keeps_distinct", [](on f, how o, std::string name) { return checks::keeps_distinct(f.made(), name, o); },
      "Different inputs have different results.");

  // Invariance.
  scoped(
      "invariant_to_shift",
      [](on f, how o, std::string name, std::string scope) {
        return checks::invariant_to_shift(f.made(), name, scope_of(scope), o);
      },
      "Adding a constant to an input, of a prompt or of the batch, changes no result.");
  scoped(
      "invariant_to_scale",
      [](on f, how o, std::string name, std::string scope) {
        return checks::invariant_to_scale(f.made(), name, scope_of(scope), o);
      },
      "Multiplying an input by a positive constant changes no result.");
  scoped(
      "invariant_to_monotone_map",
      [](on f, how o, std::string name, std::string scope) {
        return checks::invariant_to_monotone_map(f.made(), name, scope_of(scope), o);
      },
      "A strictly increasing map of an input changes no result.");
  named(
      "scales_with", [](on f, how o, std::string name) { return checks::scales_with(f.made(), name, o); },
      "If an input is doubled, so are the results.");
  plain(
      "invariant_to_order", [](on f, how o) { return checks::invariant_to_order(f.made(), o); },
      "The order of the responses and of the prompts changes no result.");
  plain(
      "independent_prompts", [](on f, how o) { return checks::independent_prompts(f.made(), o); },
      "The results of a prompt do not depend on other prompts.");
  plain(
      "independent_responses", [](on f, how o) { return checks::independent_responses(f.made(), o); },
      "The result of a response does not depend on other responses.");
  named(
      "baseline_excludes_itself",
      [](on f, how o, std::string name) { return checks::baseline_excludes_itself(f.made(), name, o); },
      "What an advantage subtracts from a reward does not depend on that reward.");
  define(
      m, "unbiased_advantages",
      +[](on f, how o, Index group_size) { return checks::unbiased_advantages(f.made(), group_size, o); },
      "Policy gradient with these advantages follows the gradient of the expected reward: an exact check.",
      arg("group_size") = 3);

  // Calibration: f(reference, rewards, prompt), as infalign.calibrate.
  const auto calibration = [&](const char* name, report (*check)(const checks::calibration_function&, how),
                               const char* about) {
    const auto checked = [check](const py::object& f, how o) {
      return check(
          [&f](const matrix<double>& reference, const std::vector<int>& prompt, const array<double>& rewards) {
            return called([&] { return results_of(f(copied(reference), copied(rewards), prompts_of(prompt))); });
          },
          o);
    };
    define_check(m, name, checked, about);
  };
  calibration("uniform_on_reference", &checks::uniform_on_reference<>,
              "f(reference, rewards, prompt): a new response of the reference policy has the mean 1/2.");
  calibration("is_mid_rank", &checks::is_mid_rank<>,
              "f(reference, rewards, prompt): the results are mid-ranks among the prompt's own references.");
  calibration("covers_distribution", &checks::covers_distribution<>,
              "f(reference, rewards, prompt): the mean over all tables is the place in the true distribution.");
  calibration("calibration_invariant_to_monotone_map", &checks::calibration_invariant_to_monotone_map<>,
              "f(reference, rewards, prompt): an increasing map of all rewards of a prompt changes no result.");
  m.def(
      "fresh_table",
      [](py::handle reference, py::handle rewards, double level) {
        return checks::fresh_table(table<double>(reference), read_rows<double>("rewards", rewards).as_matrix(), level);
      },
      arg("reference"), arg("rewards"), arg("level") = 0.001,
      "A table fits new responses of the reference policy: the drift test does not reject at this level.");

  // KL estimates: f(log_probabilities, reference_log_probabilities, mask), each B x T.
  const auto kl = [&](const char* name, report (*check)(const checks::kl_estimate&, checks::divergence, how),
                      const char* about) {
    const auto checked = [check](const py::object& f, const std::string& divergence, std::uint64_t seed,
                                 double tolerance) {
      const checks::kl_estimate function = [&f](const matrix<double>& now, const matrix<double>& reference,
                                                const matrix<double>& mask) {
        return called([&] { return results_of(f(copied(now), copied(reference), copied(mask))); });
      };
      return run(
          [&] { return check(function, divergence_of(divergence), options{.seed = seed, .tolerance = tolerance}); });
    };
    m.def(name, checked, arg("f"), arg("divergence") = "reverse", py::kw_only(), arg("seed") = 1,
          arg("tolerance") = 1e-6, about);
  };
  kl("estimates_kl", &checks::estimates_kl<>,
     "f(log_probabilities, reference_log_probabilities, mask): the mean of the estimate is the divergence.");
  kl("has_kl_gradient", &checks::has_kl_gradient<>,
     "f(log_probabilities, reference_log_probabilities, mask): as a loss, it has the divergence's gradient.");

  // Steps: f(rewards, prompt, log_probabilities=..., ...), as a policy_gradient, or a function that returns the gradient.
  const auto step = [&](const char* name, report (*check)(const checks::training_step&, how), const char* about) {
    const auto checked = [check](const py::object& f, how o, Index smallest_group) {
      return check(step_of(f, smallest_group), o);
    };
    define_check<Index>(m, name, checked, about, arg("smallest_group") = 2);
  };
  step("no_gradient_at_masked_tokens", &checks::no_gradient_at_masked_tokens<>,
       "A step has the gradient 0 at masked tokens.");
  step("ignores_masked_tokens", &checks::ignores_masked_tokens<>,
       "The log-probabilities of masked tokens change no gradient.");
  step("ignores_padding", &checks::ignores_padding<>, "Masked tokens behind all others change no gradient.");
  step("ratio_of_one_is_on_policy", &checks::ratio_of_one_is_on_policy<>,
       "Old log-probabilities equal to the present ones have no effect.");
  step("step_invariant_to_order", &checks::step_invariant_to_order<>,
       "The order of the responses changes no gradient.");
  m.def(
      "parts_sum_to_whole",
      [](const py::object& accumulate, Index smallest_group, std::uint64_t seed, int cases, double tolerance) {
        const auto function = [&accumulate](const std::vector<checks::token_case>& parts) {
          return called([&] {
            const auto arguments = py::cpp_function([](const py::args& given, const py::kwargs& tokens) {
              py::dict all("rewards"_a = given[0], "prompt"_a = given[1]);
              for (const auto& [key, value] : tokens) all[key] = value;
              return all;
            });
            py::list batches;
            for (const auto& c : parts) batches.append(call_step(arguments, c));
            return gradient_of(accumulate(batches));
          });
        };
        const options o{.seed = seed, .cases = cases, .tolerance = tolerance};
        return run([&] { return checks::parts_sum_to_whole(function, smallest_group, o); });
      },
      arg("accumulate"), arg("smallest_group") = 2, py::kw_only(), arg("seed") = 1, arg("cases") = 200,
      arg("tolerance") = 1e-6,
      "Micro-batches have the gradient of the whole batch. accumulate gets a list of dictionaries of a step's "
      "arguments and returns the gradient of all.");
  m.def(
      "unbiased_step",
      [](const py::object& f, Index group_size, double beta, const std::string& divergence, std::uint64_t seed,
         double tolerance) {
        const options o{.seed = seed, .tolerance = tolerance};
        return run([&] {
          return checks::unbiased_step(step_of(f, group_size), group_size, beta, divergence_of(divergence), o);
        });
      },
      arg("f"), arg("group_size") = 2, arg("beta") = 0.0, arg("divergence") = "reverse", py::kw_only(), arg("seed") = 1,
      arg("tolerance") = 1e-6, "The expected step ascends E[R] - beta KL: an exact check, without sampling.");

  // Logs of a trainer: raw and shaped rewards, P x M, or flat with prompt=.
  const auto log = [&](const char* name,
                       report (*check)(const std::vector<int>&, const array<double>&, const array<double>&),
                       const char* about) {
    const auto checked = [name, check](py::handle raw, py::handle shaped, py::handle prompt) {
      const batch_rewards<double> before(name, raw, prompt), after(name, shaped, prompt);
      std::vector<int> prompts;
      if (const auto given = before.view().prompt)
        prompts.assign(given->begin(), given->end());
      else
        for (Index i = 0; i < before.rewards().size(); ++i)
          prompts.push_back(static_cast<int>(i / before.rewards().columns));
      return check(prompts, before.rewards().one_by_one(), after.rewards().one_by_one());
    };
    m.def(name, checked, arg("raw"), arg("shaped"), arg("prompt") = py::none(), about);
  };
  log("log_keeps_order", &checks::log_keeps_order, "The shaped rewards are a monotone function of the raw ones.");
  log("log_keeps_distinct", &checks::log_keeps_distinct, "Different raw rewards have different shaped ones.");
  log("log_keeps_ties", &checks::log_keeps_ties, "Equal raw rewards have equal shaped ones.");
  log("log_keeps_unscored", &checks::log_keeps_unscored,
      "A response without a raw reward has no shaped one, and one with a finite reward a finite one.");
}

}  // namespace infalign::python
