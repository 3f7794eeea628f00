// SPDX-License-Identifier: MIT
#include "step.hpp"

#include "parts.hpp"

namespace infalign::python {

namespace {

using namespace py::literals;
using py::arg;

/// A part of the step, and how it was made.
template <class Any>
struct part {
  Any value;
  made_by made;
};

/// A part whose parameters are checked.
template <class Any, class T>
Any checked_part(T value) {
  return {detail::checked(std::move(value))};
}

template <class Any>
void bind_part(py::module_& m, const char* name, const char* what) {
  py::class_<part<Any>>(m, name, what)
      .def("__getattr__", [](const part<Any>& p, const std::string& parameter) { return argument(p.made, parameter); })
      .def("__reduce__", [](const part<Any>& p) { return reduced({p.made}); })
      .def("__repr__", [](const part<Any>& p) { return text_of(p.made); });
}

any_estimator estimator_of(py::handle e) {
  if (py::isinstance<part<any_estimator>>(e)) return e.cast<part<any_estimator>>().value;
  if (!PyCallable_Check(e.ptr()))
    throw py::type_error("expected an advantage estimator or a function of a group's rewards, got " +
                         std::string(py::repr(e)));
  const auto call = [f = callback(py::reinterpret_borrow<py::object>(e))]<class S>(
                        const Eigen::Map<const array<S>>& group) -> array<S> {
    const py::gil_scoped_acquire acquired;
    return read_rows<S>("advantages", f.function()(copied(group))).as_column();
  };
  return {called_estimator{call, call}};
}

template <class Any>
Any part_of(py::handle p, const char* what) {
  if (py::isinstance<part<Any>>(p)) return p.cast<part<Any>>().value;
  throw py::type_error("expected " + std::string(what) + ", got " + std::string(py::repr(p)));
}

/// The part, or the usual one for None.
template <class Any>
Any part_or_usual(py::handle p, const char* what) {
  return p.is_none() ? Any{} : part_of<Any>(p, what);
}

sampler_mode mode_of(const std::string& name) {
  return with_name<sampler_mode>("infalign",
                                 "sampler_weights of token_truncate, token_mask, sequence_truncate or sequence_mask",
                                 {"token_truncate", "token_mask", "sequence_truncate", "sequence_mask"}, name);
}

/// The arrays of a batch. They own what `batch` views.
template <real_scalar S>
struct token_arrays {
  rows_in<S> now, reference, old, sampler;
  py::object mask;
  token_batch<S, std::uint8_t> batch;
};

/// The keyword arguments of a batch.
struct batch_arguments {
  py::object now, reference, mask, old, sampler;
  double cap = 2, floor = 0;
  std::string mode = "token_truncate";

  template <real_scalar S>
  void read(token_arrays<S>& arrays) const {
    const auto view = [](rows_in<S>& rows, const char* what, const py::object& numbers) -> matrix_view<S> {
      if (numbers.is_none()) return {};
      rows = read_rows<S>(what, numbers);
      if (rows.flat) detail::fail("infalign", detail::concat(what, " of two dimensions, B x T"), "one dimension");
      return {rows.data, rows.rows, rows.columns, rows.stride};
    };
    auto& batch = arrays.batch;
    batch.log_probabilities = view(arrays.now, "log_probabilities", now);
    batch.reference_log_probabilities = view(arrays.reference, "reference_log_probabilities", reference);
    batch.old_log_probabilities = view(arrays.old, "old_log_probabilities", old);
    batch.sampler_log_probabilities = view(arrays.sampler, "sampler_log_probabilities", sampler);
    batch.sampler_weight_cap = cap, batch.sampler_weight_floor = floor, batch.sampler_weights = mode_of(mode);
    if (mask.is_none()) return;
    const auto given = to_array("mask", mask);
    check_kind("mask", given.dtype());
    if (given.ndim() != 2) detail::fail("infalign", "a mask of two dimensions, B x T", detail::concat(given.ndim()));
    // As bytes. Numbers that are not 0 or 1 must not become so.
    const auto one = given.dtype().itemsize() == 1 ? given : py::array(given.attr("__ne__")(0));
    if (given.dtype().itemsize() != 1 && !given.attr("__eq__")(one).attr("all")().cast<bool>())
      detail::fail("infalign", "a mask of 0 and 1", "other numbers");
    auto bytes = py::array_t<std::uint8_t, py::array::c_style | py::array::forcecast>::ensure(one);
    if (!bytes) detail::fail("infalign", "a mask that NumPy can convert", "another");
    batch.mask = matrix_view<std::uint8_t>(bytes.data(), bytes.shape(0), bytes.shape(1), bytes.shape(1));
    arrays.mask = std::move(bytes);
  }
};

/// An all-reduce in Python, or one that does nothing.
any_reduction reduction_of(const py::object& function) {
  if (function.is_none()) return [](Eigen::Ref<array<double>>, reduce_op) {};
  return [&function](Eigen::Ref<array<double>> values, reduce_op op) {
    const py::gil_scoped_acquire acquired;
    const py::array_t<double> view(values.size(), values.data(), py::capsule(values.data(), [](void*) {}));
    function(view, op == reduce_op::sum ? "sum" : "max");
  };
}

/// Throws unless the parts go together. C++ finds it when it compiles.
void check_parts(const char* function, const step_parts& parts) {
  const bool sums = parts.aggregation.sums(),
             of_response = std::visit([]<class F>(const F&) { return detail::of_whole_response<F>; }, parts.surrogate),
             to_go = std::holds_alternative<k1_reward_to_go>(parts.kl.in_reward),
             no_term = parts.kl.in_reward.index() == 0 && parts.kl.in_loss.index() == 0,
             regresses = std::holds_alternative<regression>(parts.surrogate);
  const bool right = (!of_response || (sums && !to_go)) &&
                     (sums || !std::holds_alternative<sequence_kl>(parts.kl.in_loss)) &&
                     (!regresses || (no_term && parts.estimator.no_comparison()));
  if (!right)
    detail::fail(function, "parts that go together",
                 "others: a surrogate or KL loss of whole responses takes sequence_mean_of_token_sums, a clip of whole "
                 "responses no k1_reward_to_go, and regression no_kl and no_baseline");
}

/// A result in Python.
struct any_result {
  double loss;
  py::object gradient;
  step_metrics metrics;
};

template <real_scalar S>
any_result as_result(step_result<S>&& r) {
  const auto metrics = r.metrics;
  const double loss = r.loss;
  return {loss, handed_over(std::move(r.gradient)), metrics};
}

template <real_scalar S>
double work_of(const token_arrays<S>& a) {
  return 4 * static_cast<double>(a.now.size());
}

struct any_step {
  step_parts parts;
  py::tuple arguments;
};

py::dict as_dict(const step_metrics& x) {
  return py::dict("sequences"_a = x.sequences, "tokens"_a = x.tokens, "reward"_a = double(x.reward),
                  "reward_std"_a = double(x.reward_std), "advantage_mean"_a = double(x.advantage_mean),
                  "advantage_std"_a = double(x.advantage_std),
                  "frac_reward_zero_std"_a = double(x.frac_reward_zero_std), "kl"_a = double(x.kl),
                  "kl_per_token"_a = double(x.kl_per_token), "approx_kl"_a = double(x.approx_kl),
                  "ratio"_a = double(x.ratio), "clip_ratio_low"_a = double(x.clip_ratio_low),
                  "clip_ratio_high"_a = double(x.clip_ratio_high), "clip_ratio"_a = double(x.clip_ratio),
                  "kl_max"_a = double(x.kl_max), "kl_of_prompt_max"_a = double(x.kl_of_prompt_max),
                  "kl_max_prompt"_a = double(x.kl_max_prompt), "kl_max_prompt_share"_a = x.kl_max_prompt_share(),
                  "tokens_max"_a = double(x.tokens_max), "tokens_min"_a = double(x.tokens_min));
}

template <class Controller>
void bind_controller(py::module_& m, const char* name) {
  py::class_<Controller>(m, name,
                         "A KL weight beta that moves the KL towards a target. update(metrics) after each step.")
      .def(py::init([](double beta, double target, double horizon, const std::optional<double>& least,
                       const std::optional<double>& most) {
             Controller c{beta, target, horizon};
             if (least) c.least = *least;
             if (most) c.most = *most;
             c.check();
             return c;
           }),
           arg("beta"), arg("target"), arg("horizon") = 10000.0, arg("least") = py::none(), arg("most") = py::none())
      .def_readwrite("beta", &Controller::beta)
      .def_readwrite("target", &Controller::target)
      .def_readwrite("horizon", &Controller::horizon)
      .def_readwrite("least", &Controller::least)
      .def_readwrite("most", &Controller::most)
      .def("at_bound", &Controller::at_bound)
      .def(
          "update", [](Controller& c, double kl, double n) { c.update(kl, n); }, arg("kl"), arg("n"))
      .def(
          "update", [](Controller& c, const step_metrics& metrics) { c.update(metrics); }, arg("metrics"))
      .def(py::pickle([](const Controller& c) { return py::make_tuple(c.beta, c.target, c.horizon, c.least, c.most); },
                      [](const py::tuple& t) {
                        return Controller{t[0].cast<double>(), t[1].cast<double>(), t[2].cast<double>(),
                                          t[3].cast<double>(), t[4].cast<double>()};
                      }));
}

}  // namespace

void bind_step(py::module_& m) {
  bind_part<any_kl>(m, "KL", "A KL term.");
  bind_part<any_surrogate>(m, "Surrogate", "A surrogate loss.");
  bind_part<any_aggregation>(m, "Aggregation", "How terms of tokens become a loss.");
  bind_part<any_estimator>(m, "Estimator", "An advantage estimator.");

  // Functions that differ in what they make only get a pointer to that, so that each kind of them is compiled once.
  const auto plain = [&]<class Any>(const char* name, const Any& value, const char* text) {
    m.def(
        name,
        [name, value] {
          return part<Any>{value, {name, {}}};
        },
        text);
  };
  const auto kl = [&](const char* name, any_kl (*make)(double), const char* text) {
    const auto made = [name, make](double beta) {
      detail::check_positive(name, "a beta", beta);
      return part<any_kl>{make(beta), {name, py::dict("beta"_a = beta)}};
    };
    m.def(name, made, arg("beta"), text);
  };
  plain("no_kl", any_kl{}, "No KL term.");
  kl(
      "k1_in_reward",
      [](double beta) -> any_kl {
        return {k1_in_reward{beta}, {}};
      },
      "beta KL, estimated by k1, subtracted from the reward of a response.");
  kl(
      "k1_reward_to_go",
      [](double beta) -> any_kl {
        return {k1_reward_to_go{beta}, {}};
      },
      "The same, token by token.");
  kl(
      "k2_loss",
      [](double beta) -> any_kl {
        return {{}, sequence_kl{beta, false}};
      },
      "k2 in the loss of a response.");
  kl(
      "k3_loss",
      [](double beta) -> any_kl {
        return {{}, sequence_kl{beta, true}};
      },
      "k3 in the loss of a response: the forward KL.");
  kl(
      "k2_token_loss",
      [](double beta) -> any_kl {
        return {{}, k2_token_loss{beta}};
      },
      "k2 in the loss of a token.");
  kl(
      "k3_token_loss",
      [](double beta) -> any_kl {
        return {{}, k3_token_loss{beta}};
      },
      "k3 in the loss of a token, as in GRPO.");

  const auto with_n = [&](const char* name, any_estimator (*make)(int), const char* text) {
    const auto made = [name, make](int n) { return part<any_estimator>{make(n), {name, py::dict("n"_a = n)}}; };
    m.def(name, made, arg("n"), text);
  };
  const auto with_number = [&](const char* name, any_estimator (*make)(double), const char* argument, double by_default,
                               const char* text) {
    const auto made = [name, make, argument](double x) {
      return part<any_estimator>{make(x), {name, py::dict(arg(argument) = x)}};
    };
    m.def(name, made, arg(argument) = by_default, text);
  };
  plain("no_baseline", any_estimator{no_baseline{}}, "The reward itself.");
  plain("batch_mean", any_estimator{batch_mean{}}, "Less the mean of the batch.");
  plain("group_mean", any_estimator{group_mean{}}, "Less the mean of the group (Dr. GRPO).");
  plain("leave_one_out", any_estimator{leave_one_out{}}, "Less the mean of the other responses (RLOO).");
  with_number(
      "group_standardized", [](double e) { return checked_part<any_estimator>(group_standardized{e}); }, "epsilon",
      1e-4, "The z-score of the group (GRPO).");
  with_number(
      "batch_standardized", [](double e) { return checked_part<any_estimator>(batch_standardized{e}); }, "epsilon",
      1e-4, "Less the mean of the group, over the deviation of the batch.");
  with_n(
      "max_at_n", [](int n) { return checked_part<any_estimator>(max_at_n{n}); },
      "The gradient of E[max of n rewards].");
  with_n(
      "centered_max_at_n", [](int n) { return checked_part<any_estimator>(centered_max_at_n{n}); },
      "The same, less its mean.");
  with_n(
      "min_at_n", [](int n) { return checked_part<any_estimator>(min_at_n{n}); },
      "The gradient of E[min of n rewards].");
  with_number(
      "max_rl", [](double constant) { return checked_part<any_estimator>(max_rl{constant}); }, "constant", 0,
      "MaxRL for rewards of at least 0.");
  m.def(
      "order_weighted",
      [](py::handle weight, const std::string& baseline) {
        const auto chosen = with_name<set_baseline>("order_weighted", "a baseline of none, others or group_mean",
                                                    {"none", "others", "group_mean"}, baseline);
        return part<any_estimator>{
            checked_part<any_estimator>(order_weighted{read_rows<double>("weight", weight).as_column(), chosen}),
            {"order_weighted", py::dict("weight"_a = weight, "baseline"_a = baseline)}};
      },
      arg("weight"), arg("baseline") = "others",
      "The gradient of any ordered choice: order_weighted(order_weights(procedure)).");

  plain("reinforce", any_surrogate{reinforce{}}, "-A log pi.");
  const auto clip = [&](const char* name, any_surrogate (*make)(double, double, double), const char* text) {
    const auto made = [name, make](double low, double high, double dual) {
      return part<any_surrogate>{make(low, high, dual),
                                 {name, py::dict("low"_a = low, "high"_a = high, "dual"_a = dual)}};
    };
    m.def(name, made, arg("low") = 0.2, arg("high") = 0.2, arg("dual") = 0.0, text);
  };
  clip(
      "ppo_clip",
      [](double low, double high, double dual) {
        return checked_part<any_surrogate>(ppo_clip{low, high, dual});
      },
      "PPO's clip, on the ratio of each token.");
  clip(
      "sequence_clip",
      [](double low, double high, double dual) {
        return checked_part<any_surrogate>(sequence_clip{low, high, dual});
      },
      "On the ratio of the response.");
  clip(
      "gspo_clip",
      [](double low, double high, double dual) {
        return checked_part<any_surrogate>(gspo_clip{low, high, dual});
      },
      "On the geometric mean of the token ratios.");
  m.def(
      "cispo",
      [](double low, double high) {
        return part<any_surrogate>{checked_part<any_surrogate>(cispo{low, high}),
                                   {"cispo", py::dict("low"_a = low, "high"_a = high)}};
      },
      arg("low") = 1.0, arg("high") = 4.0, "A clipped importance weight without gradient.");
  m.def(
      "regression",
      [](double beta) {
        return part<any_surrogate>{checked_part<any_surrogate>(regression{beta}),
                                   {"regression", py::dict("beta"_a = beta)}};
      },
      arg("beta"), "Least squares towards phi - beta log Z, off-policy; with no_kl() and no_baseline().");

  m.def(
      "sequence_mean_of_token_sums",
      [](double length) {
        return part<any_aggregation>{checked_part<any_aggregation>(sequence_mean_of_token_sums{length}),
                                     {"sequence_mean_of_token_sums", py::dict("length"_a = length)}};
      },
      arg("length") = 1.0, "The mean over responses of the sum over tokens, over a fixed length.");
  plain("sequence_mean_of_token_means", any_aggregation{sequence_mean_of_token_means{}},
        "The mean over responses of the mean over tokens.");
  plain("token_mean", any_aggregation{token_mean{}}, "The mean over all unmasked tokens.");

  py::class_<step_metrics>(m, "step_metrics", "What a step reports. Metrics of micro-batches are added exactly by +=.")
      .def("to_dict", &as_dict)
      .def("__getattr__",
           [](const step_metrics& x, const std::string& name) -> py::object {
             const auto all = as_dict(x);
             if (all.contains(name.c_str())) return all[name.c_str()];
             throw py::attribute_error("step_metrics has no \"" + name + "\"");
           })
      .def("__iadd__", [](step_metrics& a, const step_metrics& b) -> step_metrics& { return a += b; })
      .def("__repr__", [](const step_metrics& x) { return py::str(as_dict(x)); });
  py::class_<any_result>(m, "step_result", "loss, gradient (B x T: d loss / d log-probability) and metrics.")
      .def_readonly("loss", &any_result::loss)
      .def_readonly("gradient", &any_result::gradient)
      .def_readonly("metrics", &any_result::metrics);

  m.def(
      "advantage",
      [](py::handle rewards, py::handle estimator, py::handle prompt, const std::string& on_unscored) {
        const auto chosen = estimator_of(estimator);
        return with_scalar(rewards, [&]<class S>(S) -> py::object {
          const batch_rewards<S> batch("advantage", rewards, prompt);
          auto result = new_result(batch.rewards());
          run_advantage(chosen, batch.view(), unscored_of(on_unscored), result.view);
          return std::move(result.numbers);
        });
      },
      arg("rewards"), arg("estimator"), arg("prompt") = py::none(), py::kw_only(), arg("unscored") = "error",
      "The advantages of rewards P x M, or of a flat batch.");

#define INFALIGN_BATCH                                                                                                \
  arg("log_probabilities"), arg("reference_log_probabilities") = py::none(), arg("mask") = py::none(),                \
                            arg("old_log_probabilities") = py::none(), arg("sampler_log_probabilities") = py::none(), \
                            arg("sampler_weight_cap") = 2.0, arg("sampler_weight_floor") = 0.0,                       \
                            arg("sampler_weights") = "token_truncate"
  const auto pickled = []<class Step>(const char* name, std::type_identity<Step>) {
    return
        [name](const Step& s) { return py::make_tuple(py::module_::import("infalign._core").attr(name), s.arguments); };
  };

  // The call of a step on rewards. run(parts, arrays, rewards, reduction) returns its result.
  const auto bind_call = []<class Step, class F>(py::class_<Step>& step, const F& run, const char* text) {
    step.def(
        "__call__",
        [run](const Step& s, py::handle rewards, py::handle prompt, py::object now, py::object reference,
              py::object mask, py::object old, py::object sampler, double cap, double floor, const std::string& mode,
              const py::object& reduce) {
          const batch_arguments given{now, reference, mask, old, sampler, cap, floor, mode};
          return with_scalar(now, [&]<class S>(S) {
            token_arrays<S> arrays;
            given.read(arrays);
            const batch_rewards<S> batch("policy_gradient", rewards, prompt);
            return run(s.parts, arrays, batch.view(), reduction_of(reduce));
          });
        },
        arg("rewards"), arg("prompt") = py::none(), py::kw_only(), INFALIGN_BATCH, arg("reduce") = py::none(), text);
  };

  struct gradient_step : any_step {};
  py::class_<gradient_step> gradient(
      m, "policy_gradient",
      "policy_gradient(kl, estimator, surrogate=reinforce(), aggregation=sequence_mean_of_token_sums(), "
      "unscored='error')\n\nOne step that maximises E[R] - beta KL:\n"
      "out = step(rewards, log_probabilities=..., reference_log_probabilities=..., mask=...).");
  gradient
      .def(py::init([](py::object kl_part, py::object estimator, py::object surrogate, py::object aggregation,
                       const std::string& on_unscored) {
             gradient_step s;
             s.parts = {part_of<any_kl>(kl_part, "a KL term such as k1_in_reward(0.05)"), estimator_of(estimator),
                        part_or_usual<any_surrogate>(surrogate, "a surrogate"),
                        part_or_usual<any_aggregation>(aggregation, "an aggregation"), unscored_of(on_unscored)};
             check_parts("policy_gradient", s.parts);
             s.arguments = py::make_tuple(kl_part, estimator, surrogate, aggregation, on_unscored);
             return s;
           }),
           arg("kl"), arg("estimator"), arg("surrogate") = py::none(), arg("aggregation") = py::none(),
           arg("unscored") = "error")
      .def("__reduce__", pickled("policy_gradient", std::type_identity<gradient_step>()));
  bind_call(
      gradient,
      [](const step_parts& parts, const auto& arrays, const auto& rewards, const any_reduction& reduce) {
        return as_result(without_gil(work_of(arrays), [&] { return run_step(parts, arrays.batch, rewards, reduce); }));
      },
      "rewards: P x M with B = P M, or B with prompt=. The dtype of log_probabilities decides.\n"
      "reduce(values, op): replaces values, a NumPy array, by their sum or maximum (op 'sum' or 'max') over all "
      "shards.");

  struct loss_step : any_step {};
  py::class_<loss_step>(m, "policy_loss",
                        "policy_loss(kl=no_kl(), surrogate=reinforce(), aggregation=..., unscored='error')\n\n"
                        "The loss of a micro-batch from its advantages (B, or B x T) and the size of the whole batch.")
      .def(py::init(
               [](py::object kl_part, py::object surrogate, py::object aggregation, const std::string& on_unscored) {
                 loss_step s;
                 s.parts = {part_or_usual<any_kl>(kl_part, "a KL term"),
                            {},
                            part_or_usual<any_surrogate>(surrogate, "a surrogate"),
                            part_or_usual<any_aggregation>(aggregation, "an aggregation"),
                            unscored_of(on_unscored)};
                 if (s.parts.kl.in_reward.index() != 0)
                   detail::fail("policy_loss", "a KL loss or no_kl(): a KL in the reward is part of the advantages",
                                "one in the reward");
                 check_parts("policy_loss", s.parts);
                 s.arguments = py::make_tuple(kl_part, surrogate, aggregation, on_unscored);
                 return s;
               }),
           arg("kl") = py::none(), arg("surrogate") = py::none(), arg("aggregation") = py::none(),
           arg("unscored") = "error")
      .def(
          "__call__",
          [](const loss_step& s, py::handle advantages, py::object now, py::object reference, py::object mask,
             py::object old, py::object sampler, double cap, double floor, const std::string& mode,
             const std::optional<double>& sequences, const std::optional<double>& tokens) {
            const batch_arguments given{now, reference, mask, old, sampler, cap, floor, mode};
            if (sequences.has_value() != tokens.has_value())
              detail::fail("policy_loss", "sequences and tokens of the whole batch, or neither", "one of them");
            std::optional<batch_size> size;
            if (sequences) size = batch_size{*sequences, *tokens};
            return with_scalar(now, [&]<class S>(S) {
              token_arrays<S> arrays;
              given.read(arrays);
              const auto a = read_rows<S>("advantages", advantages);
              return as_result(without_gil(work_of(arrays), [&] { return run_loss(s.parts, arrays.batch, a, size); }));
            });
          },
          arg("advantages"), py::kw_only(), INFALIGN_BATCH, arg("sequences") = py::none(), arg("tokens") = py::none(),
          "sequences, tokens: of the whole batch, if this is a part of it.")
      .def("__reduce__", pickled("policy_loss", std::type_identity<loss_step>()));

  struct advantage_step : any_step {};
  py::class_<advantage_step> advantages(
      m, "policy_advantages",
      "policy_advantages(kl, estimator, unscored='error')\n\n"
      "The advantages of a whole batch, with a KL in the reward: B, or B x T for k1_reward_to_go.");
  advantages
      .def(py::init([](py::object kl_part, py::object estimator, const std::string& on_unscored) {
             advantage_step s;
             s.parts = {
                 part_of<any_kl>(kl_part, "a KL term"), estimator_of(estimator), {}, {}, unscored_of(on_unscored)};
             if (s.parts.kl.in_loss.index() != 0)
               detail::fail("policy_advantages", "no_kl() or a KL in the reward: a KL loss is part of policy_loss",
                            "a KL loss");
             s.arguments = py::make_tuple(kl_part, estimator, on_unscored);
             return s;
           }),
           arg("kl"), arg("estimator"), arg("unscored") = "error")
      .def("__reduce__", pickled("policy_advantages", std::type_identity<advantage_step>()));
  bind_call(
      advantages,
      []<class S>(const step_parts& parts, const token_arrays<S>& arrays, const batch_view<S>& rewards,
                  const any_reduction& reduce) -> py::object {
        matrix<S> a = run_advantages(parts, arrays.batch, rewards, reduce);
        if (std::holds_alternative<k1_reward_to_go>(parts.kl.in_reward)) return handed_over(std::move(a));
        return copied(array<S>(a.reshaped()));
      },
      "rewards: as of policy_gradient. reduce too.");
#undef INFALIGN_BATCH

  bind_controller<adaptive_kl_per_sequence>(m, "adaptive_kl_per_sequence");
  bind_controller<adaptive_kl_per_token>(m, "adaptive_kl_per_token");
}

}  // namespace infalign::python
