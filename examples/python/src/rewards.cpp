// SPDX-License-Identifier: MIT
#include "rewards.hpp"

#include <optional>

namespace infalign {
template class calibration_prior<float>;
template class calibration_prior<double>;
}  // namespace infalign

namespace infalign::python {

namespace {

using namespace py::literals;
using py::arg;

template <real_scalar S>
const calibration_prior<S>& prior_of(const any_prior& prior) {
  if (const auto* p = std::get_if<calibration_prior<S>>(&prior.prior)) return *p;
  detail::fail("calibration", detail::concat("a prior of ", detail::name_of<S>, " rewards, as the reference is"),
               sizeof(S) == 4 ? "a prior of doubles" : "a prior of floats");
}

template <real_scalar S>
shaping<S> shaping_of(py::handle reference, py::handle rank, py::handle prior, unscored on_unscored) {
  table<S> rows(reference);
  const Index prompts = rows.rows();
  const double count = rows.work(1);
  if (!prior.is_none()) {
    if (!rank.is_none()) throw py::type_error("a calibration has a rank or a prior, not both");
    return {calibration{std::move(rows), prior_of<S>(prior.cast<const any_prior&>()), on_unscored}, prompts, count};
  }
  return std::visit(
      [&](const auto& r) -> shaping<S> {
        return {calibration{std::move(rows), r, on_unscored}, prompts, count};
      },
      rank_of(rank));
}

template <real_scalar S>
py::object shaped(const any_calibration& c, const shaping<S>& functor, py::handle rewards, py::handle prompt) {
  const batch_rewards<S> batch("calibration", rewards, prompt);
  const auto& given = batch.rewards();
  auto result = new_result(given);
  const auto calibrate = [&] {
    batch.view().write(result.view, [&](auto&& out, const auto&... of_batch) {
      std::visit([&](const auto& calibrated) { calibrated.into(out, of_batch...); }, functor.calibrate);
    });
  };
  const auto transform = [&] {
    const detail::rows_view<S> rows{result.view.data(), given.rows, given.columns, given.columns};
    c.transforms.apply(rows, given.flat ? 0 : given.columns, unscored::propagate, detail::domain::any);
  };
  const double work = static_cast<double>(given.size()) * (functor.count + 10);
  if (c.transforms.calls_python()) {
    without_gil(work, calibrate);
    transform();
  } else {
    without_gil(work, [&] { calibrate(), transform(); });
  }
  return std::move(result.numbers);
}

/// One reward of one prompt.
double shaped_one(const any_calibration& c, Index prompt, double reward) {
  return std::visit(
      [&]<class S>(const shaping<S>& functor) -> double {
        const std::int64_t index = prompt;
        const std::span<const std::int64_t> prompts(&index, 1);  // the types of a flat batch, compiled once for both
        S value = static_cast<S>(reward);
        const Eigen::Map<const array<S>> rewards(&value, 1);
        std::visit([&](const auto& calibrated) { calibrated.into(Eigen::Map<array<S>>(&value, 1), prompts, rewards); },
                   functor.calibrate);
        c.transforms.apply(detail::rows_view<S>{&value, 1, 1, 1}, 0, unscored::propagate, detail::domain::any);
        return static_cast<double>(value);
      },
      *c.functor);
}

/// calibration.one. An int and a float by position do not go through pybind11's search for a function, which takes half
/// of the time of the call. All else, and what fails, is left to calibration._one, which pybind11 has made.
PyObject* one(PyObject* self, PyObject* const* arguments, Py_ssize_t count, PyObject* keywords) {
  const bool plain =
      count == 2 && keywords == nullptr && PyLong_CheckExact(arguments[0]) && PyFloat_CheckExact(arguments[1]);
  const Py_ssize_t prompt = plain ? PyLong_AsSsize_t(arguments[0]) : -1;
  PyErr_Clear();  // the int may be too large
  if (prompt >= 0) {
    try {
      const auto& shape = *py::cast<const any_calibration*>(py::handle(self));
      return PyFloat_FromDouble(shaped_one(shape, prompt, PyFloat_AS_DOUBLE(arguments[1])));
    } catch (py::error_already_set& error) {  // of a transform in Python
      error.restore();
      return nullptr;
    } catch (const std::exception&) {
    }
  }
  const auto bound = py::reinterpret_steal<py::object>(PyObject_GetAttrString(self, "_one"));
  return bound ? PyObject_Vectorcall(bound.ptr(), arguments, static_cast<std::size_t>(count), keywords) : nullptr;
}

PyMethodDef one_method{"one", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(&one)),
                       METH_FASTCALL | METH_KEYWORDS,
                       "one(self, prompt: int, reward: float) -> float\n\nShapes the reward of one response."};

template <real_scalar S>
py::object leave_one_out(py::handle rewards, py::handle prompt, py::handle rank, py::handle prior,
                         unscored on_unscored) {
  const batch_rewards<S> batch("calibrate_leave_one_out", rewards, prompt);
  auto result = new_result(batch.rewards());
  batch.view().write(result.view, [&](auto&& out, const auto&... of_batch) {
    if (!prior.is_none())
      calibrate_leave_one_out_into(out, prior_of<S>(prior.cast<const any_prior&>()), of_batch..., on_unscored);
    else
      std::visit([&](const auto& r) { calibrate_leave_one_out_into(out, of_batch..., r, on_unscored); }, rank_of(rank));
  });
  return std::move(result.numbers);
}

py::object transformed(py::handle u, py::handle phi, const std::string& on_unscored) {
  any_transform made;
  if (!py::isinstance<any_transform>(phi)) made = transform_of(phi);
  const any_transform& chain = made.stages.empty() ? phi.cast<const any_transform&>() : made;
  return with_scalar(u, [&]<class S>(S) -> py::object {
    const auto given = read_rows<S>("u", u);
    auto result = new_result(given);
    const auto run = [&] {
      result.view = given.as_matrix();
      chain.apply(detail::rows_view<S>{result.view.data(), given.rows, given.columns, given.columns},
                  given.flat ? 0 : given.columns, unscored_of(on_unscored), detail::domain::calibrated);
    };
    if (chain.calls_python())
      run();
    else
      without_gil(static_cast<double>(given.size()), run);
    return std::move(result.numbers);
  });
}

// ---- Priors ----

const char* const models[] = {"pooled", "location", "location_scale"};

any_prior make_prior(py::handle reference, const std::optional<std::string>& model, const std::optional<double>& weight,
                     const std::string& on_unscored) {
  std::optional<prior_model> chosen;
  if (model)
    chosen = with_name<prior_model>("calibration_prior", "a model of \"pooled\", \"location\" or \"location_scale\"",
                                    models, *model);
  if (weight && !chosen) detail::fail("calibration_prior", "a model beside the weight", "none");
  const auto how = unscored_of(on_unscored);
  return with_scalar(reference, [&]<class S>(S) -> any_prior {
    const table<S> rows(reference);
    if (weight) return {calibration_prior<S>(rows, *chosen, *weight, how)};
    if (chosen) return {calibration_prior<S>(rows, *chosen, how)};
    return {calibration_prior<S>(rows, how)};
  });
}

template <class F>
decltype(auto) of_prior(any_prior& p, const F& f) {
  return std::visit([&](auto& prior) { return f(prior); }, p.prior);
}

// ---- Several rewards ----

/// The combination of the first `rewards` ranks. `scale_free`: see `rank_combination`.
using score_function = std::function<double(const Eigen::Ref<const array<double>>&)>;
template <bool ScaleFree>
struct combination {
  score_function score;
  Index rewards;
  static constexpr bool scale_free = ScaleFree;
  template <vector_expression U>
  double operator()(const U& u) const {
    return score(u.head(rewards));
  }
};
struct any_combination {
  score_function score;
  bool scale_free;
  Index weights = 0;
  made_by made;
};

constexpr std::size_t most_rewards = 4;

/// Compiled for four rewards. The places of others have the first reward again, which the combination does not see.
template <real_scalar S, bool ScaleFree>
py::object joint(const any_combination& h, const any_rank_function& rank, unscored on_unscored,
                 const py::tuple& reference, const py::tuple& rewards, py::handle prompt) {
  std::vector<table<S>> tables;
  std::vector<batch_rewards<S>> batches;
  for (std::size_t k = 0; k < reference.size(); ++k) {
    tables.emplace_back(reference[k]);
    batches.emplace_back("joint_calibration", rewards[k], prompt);
  }
  auto result = new_result(batches[0].rewards());
  const auto place = [&](std::size_t k) { return k < reference.size() ? k : 0; };
  const auto calibrate = [&]<std::size_t... k>(std::index_sequence<k...>) {
    const joint_calibration shape(combination<ScaleFree>{h.score, Index(reference.size())}, rank, on_unscored,
                                  tables[place(k)]...);
    batches[0].view().write(result.view, [&]<class... Batch>(auto&& out, const Batch&... first) {
      if constexpr (sizeof...(Batch) == 1)
        shape.into(out, batches[place(k)].rewards().as_matrix()...);
      else
        shape.into(out, std::get<0>(std::tie(first...)), batches[place(k)].rewards().as_column()...);
    });
  };
  calibrate(std::make_index_sequence<most_rewards>());
  return std::move(result.numbers);
}

/// A `joint_calibration` in Python. It holds its tables as they were given.
struct any_joint {
  any_combination combine;
  py::object combine_as_given, rank;
  std::string on_unscored;
  py::tuple reference;
  any_transform transforms;

  py::object operator()(const py::tuple& rewards, py::handle prompt) const {
    if (rewards.size() != reference.size())
      detail::fail("joint_calibration", detail::concat(reference.size(), " batches of rewards, one for each table"),
                   detail::concat(rewards.size()));
    const auto how = unscored_of(on_unscored);
    const any_rank_function ranked = std::visit([](const auto& r) { return any_rank_function{r}; }, rank_of(rank));
    py::object result = with_scalar(reference[0], [&]<class S>(S) {
      if (combine.scale_free) return joint<S, true>(combine, ranked, how, reference, rewards, prompt);
      return joint<S, false>(combine, ranked, how, reference, rewards, prompt);
    });
    if (transforms.stages.empty()) return result;
    with_scalar(result, [&]<class S>(S) {
      auto rows = read_rows<S>("rewards", result);
      transforms.apply(detail::rows_view<S>{const_cast<S*>(rows.data), rows.rows, rows.columns, rows.columns}, 0,
                       unscored::propagate, detail::domain::any);
    });
    return result;
  }
};

template <class H>
any_combination combined(const char* name, const H& h, const py::dict& arguments) {
  return {[h](const Eigen::Ref<const array<double>>& u) { return h(u); }, true, 0, {name, arguments}};
}

}  // namespace

any_calibration make_calibration(const py::object& reference, const py::object& rank, const py::object& prior,
                                 const std::string& on_unscored) {
  const auto how = unscored_of(on_unscored);
  auto functor = with_scalar(reference, [&]<class S>(S) {
    return std::make_shared<const std::variant<shaping<float>, shaping<double>>>(
        shaping_of<S>(reference, rank, prior, how));
  });
  return {reference, rank, prior, on_unscored, std::move(functor), {}};
}

void bind_rewards(py::module_& m) {
  py::class_<any_calibration> calibration_class(
      m, "calibration",
      "calibration(reference, rank=None, *, prior=None, unscored='error')\n\n"
      "The rank of each reward among the reference rewards of its prompt, and then any transforms:\n"
      "shape = calibration(reference) | normalized_exponential(10); shape(rewards).\n\n"
      "reference: P x K; an array that is C-contiguous in its rows is not copied and must not change.\n"
      "Its dtype decides: float32, else float64. Lists may have different lengths; None is NaN.");
  calibration_class
      .def(py::init(&make_calibration), arg("reference"), arg("rank") = py::none(), py::kw_only(),
           arg("prior") = py::none(), arg("unscored") = "error")
      .def(
          "__call__",
          [](const any_calibration& c, py::handle rewards, py::handle prompt) {
            return std::visit([&](const auto& functor) { return shaped(c, functor, rewards, prompt); }, *c.functor);
          },
          arg("rewards"), arg("prompt") = py::none(),
          "Shapes rewards P x M, or a flat batch with the index of each response's prompt.")
      .def("one", &shaped_one, arg("prompt"), arg("reward"))
      .def(
          "__len__",
          [](const any_calibration& c) { return std::visit([](const auto& f) { return f.prompts; }, *c.functor); },
          "The number of prompts.")
      .def("__or__",
           [](const any_calibration& c, py::handle next) {
             any_calibration result = c;
             result.transforms.append(next);
             return result;
           })
      .def_property_readonly(
          "transform",
          [](const any_calibration& c) -> py::object {
            if (c.transforms.stages.empty()) return py::none();
            return py::cast(c.transforms);
          },
          "The transforms, or None.")
      .def_readonly("reference", &any_calibration::reference)
      .def("__reduce__", [](const any_calibration& c) {
        const py::object transform = c.transforms.stages.empty() ? py::none() : py::cast(c.transforms);
        return py::make_tuple(py::module_::import("infalign.pickling").attr("calibration"),
                              py::make_tuple(c.reference, c.rank, c.prior, c.on_unscored, transform));
      });
  calibration_class.attr("_one") = calibration_class.attr("one");
  calibration_class.attr("one") = py::reinterpret_steal<py::object>(
      PyDescr_NewMethod(reinterpret_cast<PyTypeObject*>(calibration_class.ptr()), &one_method));
  m.def(
      "calibrate",
      [](const py::object& reference, py::handle rewards, py::handle prompt, const py::object& rank,
         const py::object& prior, const std::string& on_unscored) {
        return with_scalar(reference, [&]<class S>(S) {
          const any_calibration none{reference, rank, prior, on_unscored, nullptr, {}};
          return shaped(none, shaping_of<S>(reference, rank, prior, unscored_of(on_unscored)), rewards, prompt);
        });
      },
      arg("reference"), arg("rewards"), arg("prompt") = py::none(), py::kw_only(), arg("rank") = py::none(),
      arg("prior") = py::none(), arg("unscored") = "error",
      "Replaces each reward by its rank among the reference rewards of its prompt, in [0, 1].\n\n"
      "reference: P x K. rewards: P x M, or B with prompt=, the index of each response's prompt.\n"
      "unscored='propagate': NaN stays NaN, and NaN references are left out.");
  m.def(
      "calibrate_leave_one_out",
      [](py::handle rewards, py::handle prompt, py::handle rank, py::handle prior, const std::string& on_unscored) {
        return with_scalar(rewards, [&]<class S>(S) {
          return leave_one_out<S>(rewards, prompt, rank, prior, unscored_of(on_unscored));
        });
      },
      arg("rewards"), arg("prompt") = py::none(), py::kw_only(), arg("rank") = py::none(), arg("prior") = py::none(),
      arg("unscored") = "error",
      "The rank of each reward among the other responses to the same prompt. All of them must be in the batch.");
  m.def("transform", &transformed, arg("u"), arg("phi"), arg("unscored") = "error",
        "Applies a transform, or a function of an array, to calibrated rewards in [0, 1].");

  py::class_<any_prior>(
      m, "calibration_prior",
      "calibration_prior(reference, model=None, weight=None, *, unscored='error')\n\n"
      "What all prompts share, learnt from their reference rewards, for calibration with few of them.")
      .def(py::init(&make_prior), arg("reference"), arg("model") = py::none(), arg("weight") = py::none(),
           py::kw_only(), arg("unscored") = "error")
      .def_property_readonly("model",
                             [](any_prior& p) { return of_prior(p, [](auto& x) { return models[int(x.model())]; }); })
      .def_property_readonly(
          "weight", [](any_prior& p) { return of_prior(p, [](auto& x) { return x.weight(); }); },
          "How many reference rewards the prior is worth.")
      .def(
          "rms_error", [](any_prior& p, double n) { return of_prior(p, [n](auto& x) { return x.rms_error(n); }); },
          arg("count"))
      .def(
          "equivalent_count",
          [](any_prior& p, double n) { return of_prior(p, [n](auto& x) { return x.equivalent_count(n); }); },
          arg("count"), "How many references plain calibration would need to be as good.")
      .def(
          "forget", [](any_prior& p, double kept) { of_prior(p, [kept](auto& x) { x.forget(kept); }); }, arg("kept"))
      .def(
          "add",
          [](any_prior& p, py::handle rewards, py::handle prompt, const std::string& on_unscored) {
            of_prior(p, [&]<class S>(calibration_prior<S>& x) {
              if (prompt.is_none())
                x.add(table<S>(rewards), unscored_of(on_unscored));
              else
                x.add(indices(prompt).view(), read_rows<S>("rewards", rewards).as_column(), unscored_of(on_unscored));
            });
          },
          arg("rewards"), arg("prompt") = py::none(), py::kw_only(), arg("unscored") = "error")
      .def(py::pickle(
          [](const any_prior& p) {
            return std::visit(
                []<class S>(const calibration_prior<S>& x) -> py::tuple {
                  const auto& s = x.state();
                  return py::make_tuple(sizeof(S) == 4, s.value, s.below, s.at_most, s.total, s.pairs, s.kept,
                                        s.offsets, s.prompts, s.every,
                                        s.model ? py::object(py::int_(int(*s.model))) : py::none(),
                                        s.weight ? py::object(py::float_(*s.weight)) : py::none());
                },
                p.prior);
          },
          [](const py::tuple& t) -> any_prior {
            const auto restored = [&]<class S>(S) {
              prior_state<S> s;
              s.value = t[1].cast<std::vector<S>>(), s.below = t[2].cast<std::vector<double>>();
              s.at_most = t[3].cast<std::vector<double>>(), s.total = t[4].cast<double>(),
              s.pairs = t[5].cast<double>();
              s.kept = t[6].cast<std::vector<S>>(), s.offsets = t[7].cast<std::vector<Index>>();
              s.prompts = t[8].cast<Index>(), s.every = t[9].cast<Index>();
              if (!t[10].is_none()) s.model = static_cast<prior_model>(t[10].cast<int>());
              if (!t[11].is_none()) s.weight = t[11].cast<double>();
              return calibration_prior<S>(std::move(s));
            };
            if (t[0].cast<bool>()) return {restored(float{})};
            return {restored(double{})};
          }));

  py::class_<any_combination>(m, "Combination", "A combination of ranks.")
      .def("__repr__", [](const any_combination& h) { return text_of(h.made); })
      .def("__reduce__", [](const any_combination& h) { return reduced({h.made}); });
  m.def("rank_sum", [] { return combined("rank_sum", rank_sum{}, {}); });
  m.def("rank_product", [] { return combined("rank_product", rank_product{}, {}); });
  m.def("rank_minimum", [] { return combined("rank_minimum", rank_minimum{}, {}); });
  m.def(
      "weighted_rank_sum",
      [](py::handle weight) {
        const weighted_rank_sum h{read_rows<double>("weight", weight).as_column()};
        h.check(h.weight.size());
        auto result = combined("weighted_rank_sum", h, py::dict("weight"_a = weight));
        result.weights = h.weight.size();
        return result;
      },
      arg("weight"));
  py::class_<any_joint>(
      m, "joint_calibration",
      "joint_calibration(combine, *reference, rank=None, unscored='error')\n\n"
      "One calibrated reward from several: ranks by each, combined, ranked again. combine: rank_sum(),\n"
      "weighted_rank_sum(w), rank_product(), rank_minimum(), or a function of an array of ranks in [0, 1].")
      .def(py::init([](const py::object& combine, const py::args& reference, const py::object& rank,
                       const std::string& on_unscored) {
             any_combination h;
             if (py::isinstance<any_combination>(combine)) {
               h = combine.cast<any_combination>();
             } else {
               const callback f(combine);
               h = {[f](const Eigen::Ref<const array<double>>& u) {
                      const py::gil_scoped_acquire acquired;
                      return callback::number(f.function()(copied(u)));
                    },
                    false,
                    0,
                    {}};
             }
             if (reference.empty() || reference.size() > most_rewards)
               detail::fail("joint_calibration", "reference tables of 1 to 4 rewards",
                            detail::concat(reference.size()));
             if (h.weights > 0)
               detail::check_size("weighted_rank_sum", "weights, one for each reward", Index(reference.size()),
                                  h.weights);
             rank_of(rank), unscored_of(on_unscored);
             return any_joint{std::move(h), combine, rank, on_unscored, reference, {}};
           }),
           arg("combine"), arg("rank") = py::none(), arg("unscored") = "error")
      .def(
          "__call__", [](const any_joint& j, const py::args& rewards, py::handle prompt) { return j(rewards, prompt); },
          arg("prompt") = py::none())
      .def("__reduce__",
           [](const any_joint& j) {
             const py::object transform = j.transforms.stages.empty() ? py::none() : py::cast(j.transforms);
             return py::make_tuple(py::module_::import("infalign.pickling").attr("joint_calibration"),
                                   py::make_tuple(j.combine_as_given, j.reference, j.rank, j.on_unscored, transform));
           })
      .def("__or__", [](const any_joint& j, py::handle next) {
        any_joint result = j;
        result.transforms.append(next);
        return result;
      });
}

}  // namespace infalign::python
