// native_kernels._native.ppo: an actor-critic with its optimizer.
#include "cpu/ppo.hpp"

#include <pybind11/stl.h>

#include <string>
#include <utility>

#include "bindings/array_arguments.hpp"
#include "cpu/ppo_kernels.hpp"
#include "cpu/ppo_orthogonal.hpp"

namespace derl::bindings {

namespace {

using Widths = std::vector<int>;

void require_finite(const py::array& array, const char* name) {
    if (!DERL_AT_LEVEL(all_finite)(static_cast<const float*>(array.data()),
                                   static_cast<std::size_t>(array.size()))) {
        throw py::value_error(std::string(name) + ": every entry must be finite");
    }
}

// The face in Python has checked the numbers.
PolicyShape make_shape(int observation_size, int action_size, bool is_gaussian,
                       const Widths& policy, const Widths& value, bool is_relu) {
    return {observation_size,
            action_size,
            is_gaussian ? Distribution::kGaussian : Distribution::kCategorical,
            is_relu ? Activation::kRelu : Activation::kTanh,
            policy,
            value};
}

Ppo* make(const PolicyShape& shape, const py::array& parameters, int threads) {
    const float* flat = checked<float>(parameters, "parameters", "float32[P]", 1);
    const auto count = static_cast<py::ssize_t>(parameter_count(laid_out(shape)));
    require(parameters.shape(0) == count,
            "parameters: must have " + std::to_string(count) + " entries for this shape, has " +
                std::to_string(parameters.shape(0)));
    require_finite(parameters, "parameters");
    return new Ppo(shape, flat, threads);
}

py::array_t<float> start(const PolicyShape& shape, std::uint64_t seed, float log_std) {
    const ActorCritic network = laid_out(shape);
    py::array_t<float> flat(static_cast<py::ssize_t>(parameter_count(network)));
    float* const data = flat.mutable_data();
    {
        const Unlocked unlocked;
        orthogonal_parameters(network, seed, log_std, data);
    }
    return flat;
}

const float* checked_observations(const Ppo& ppo, const py::array& observations) {
    const float* data = checked<float>(observations, "observations", "float32[B, O]", 2);
    if (observations.shape(1) != ppo.network().observation_size) {
        throw py::value_error("observations: must have " +
                              std::to_string(ppo.network().observation_size) +
                              " columns, has shape " + shape_text(observations));
    }
    require_finite(observations, "observations");
    return data;
}

// Actions of `rows` rows as NumPy has them: int64[B] or float32[B, A].
struct NewActions {
    py::array array;
    Actions actions;
};

NewActions new_actions(const Ppo& ppo, py::ssize_t rows) {
    if (ppo.network().distribution == Distribution::kCategorical) {
        py::array_t<std::int64_t> array(rows);
        return {array, {array.mutable_data(), nullptr}};
    }
    py::array_t<float> array(
        {rows, static_cast<py::ssize_t>(ppo.network().action_size)});
    return {array, {nullptr, array.mutable_data()}};
}

py::tuple act(Ppo& ppo, const py::array& observations, std::uint64_t seed, std::uint64_t step) {
    const float* data = checked_observations(ppo, observations);
    const py::ssize_t rows = observations.shape(0);
    const NewActions chosen = new_actions(ppo, rows);
    py::array_t<float> values(rows), log_probs(rows);
    ppo.act(data, rows, seed, step, chosen.actions, values.mutable_data(),
            log_probs.mutable_data());
    return py::make_tuple(chosen.array, values, log_probs);
}

py::array_t<float> values(Ppo& ppo, const py::array& observations) {
    const float* data = checked_observations(ppo, observations);
    py::array_t<float> result(observations.shape(0));
    ppo.values(data, observations.shape(0), result.mutable_data());
    return result;
}

py::array best_actions(Ppo& ppo, const py::array& observations) {
    const float* data = checked_observations(ppo, observations);
    const NewActions chosen = new_actions(ppo, observations.shape(0));
    ppo.best_actions(data, observations.shape(0), chosen.actions);
    return chosen.array;
}

py::array_t<float> parameters(const Ppo& ppo) {
    py::array_t<float> flat(static_cast<py::ssize_t>(ppo.parameter_count()));
    ppo.read_parameters(flat.mutable_data());
    return flat;
}

const float* checked_samples(const py::array& array, const char* name, const RolloutView& rollout) {
    const float* data = checked<float>(array, name, "float32[T, B]", 2);
    require(array.shape(0) == rollout.steps && array.shape(1) == rollout.environments,
            std::string(name) + ": must be float32[T, B] with the T and B of observations, [" +
                std::to_string(rollout.steps) + ", " + std::to_string(rollout.environments) +
                "], has shape " + shape_text(array));
    require_finite(array, name);
    return data;
}

void check_actions(const Ppo& ppo, const py::array& actions, RolloutView& rollout) {
    const int size = ppo.network().action_size;
    const bool is_discrete = ppo.network().distribution == Distribution::kCategorical;
    if (is_discrete) {
        rollout.discrete = checked<std::int64_t>(actions, "actions", "int64[T, B]", 2);
    } else {
        rollout.continuous = checked<float>(actions, "actions", "float32[T, B, A]", 3);
        require(actions.shape(2) == size, "actions: must have " + std::to_string(size) +
                                              " components, has shape " + shape_text(actions));
        require_finite(actions, "actions");
    }
    require(actions.shape(0) == rollout.steps && actions.shape(1) == rollout.environments,
            "actions: must have the T and B of observations, has shape " + shape_text(actions));
    for (std::int64_t i = 0; is_discrete && i < rollout.samples(); ++i) {
        require(rollout.discrete[i] >= 0 && rollout.discrete[i] < size,
                "actions: must be from 0 to " + std::to_string(size - 1) + ", entry " +
                    std::to_string(i) + " is " + std::to_string(rollout.discrete[i]));
    }
}

RolloutView checked_rollout(const Ppo& ppo, const py::array& observations,
                            const py::array& actions, const py::array& log_probs,
                            const py::array& values, const py::array& advantages,
                            const py::array& returns) {
    RolloutView rollout{};
    rollout.observations = checked<float>(observations, "observations", "float32[T, B, O]", 3);
    rollout.steps = observations.shape(0);
    rollout.environments = observations.shape(1);
    require(observations.shape(2) == ppo.network().observation_size,
            "observations: must have " + std::to_string(ppo.network().observation_size) +
                " columns, has shape " + shape_text(observations));
    require(rollout.samples() > 0, "observations: must hold samples, has shape " +
                                       shape_text(observations));
    require(rollout.samples() < (std::int64_t{1} << 31),
            "observations: must hold fewer than 2^31 samples, has shape " +
                shape_text(observations));
    require_finite(observations, "observations");
    check_actions(ppo, actions, rollout);
    rollout.log_probs = checked_samples(log_probs, "log_probs", rollout);
    rollout.values = checked_samples(values, "values", rollout);
    rollout.advantages = checked_samples(advantages, "advantages", rollout);
    rollout.returns = checked_samples(returns, "returns", rollout);
    return rollout;
}

const std::int64_t* checked_order(const py::array& order, const char* name, const char* wanted,
                                  py::ssize_t axes, const RolloutView& rollout) {
    const auto* data = checked<std::int64_t>(order, name, wanted, axes);
    for (py::ssize_t i = 0; i < order.size(); ++i) {
        require(data[i] >= 0 && data[i] < rollout.samples(),
                std::string(name) + ": must be from 0 to " +
                    std::to_string(rollout.samples() - 1) + ", entry " + std::to_string(i) +
                    " is " + std::to_string(data[i]));
    }
    return data;
}

// Null where there is none; the object must outlive the pointer.
const float* checked_parameters(const Ppo& ppo, const py::object& given, const char* name) {
    if (given.is_none()) {
        return nullptr;
    }
    if (!py::isinstance<py::array>(given)) {
        throw py::type_error(std::string(name) + ": must be float32[P], is " +
                             std::string(py::str(py::type::of(given))));
    }
    const auto array = py::reinterpret_borrow<py::array>(given);
    const float* data = checked<float>(array, name, "float32[P]", 1);
    require(array.shape(0) == static_cast<py::ssize_t>(ppo.parameter_count()),
            std::string(name) + ": must have " + std::to_string(ppo.parameter_count()) +
                " entries, has " + std::to_string(array.shape(0)));
    require_finite(array, name);
    return data;
}

// The arrays of a drift, kept alive.
struct DriftArrays {
    double proximal;
    py::object anchor, correction;
};

Drift checked_drift(const Ppo& ppo, const DriftArrays* drift) {
    if (drift == nullptr) {
        return {};
    }
    return {drift->proximal, checked_parameters(ppo, drift->anchor, "anchor"),
            checked_parameters(ppo, drift->correction, "correction"),
            !drift->correction.is_none()};
}

py::tuple update(Ppo& ppo, const py::array& observations, const py::array& actions,
                 const py::array& log_probs, const py::array& values, const py::array& advantages,
                 const py::array& returns, const UpdateSettings& settings, const py::object& order,
                 std::uint64_t seed, std::uint64_t first_epoch, const DriftArrays* drift) {
    const RolloutView rollout = checked_rollout(ppo, observations, actions, log_probs, values,
                                                advantages, returns);
    const Drift pull = checked_drift(ppo, drift);
    SampleOrder samples{nullptr, seed, first_epoch};
    if (!order.is_none()) {
        if (!py::isinstance<py::array>(order)) {
            throw py::type_error("order: must be int64[n_epochs, N], is " +
                                 std::string(py::str(py::type::of(order))));
        }
        const auto given = py::reinterpret_borrow<py::array>(order);
        samples.given = checked_order(given, "order", "int64[n_epochs, N]", 2, rollout);
        require(given.shape(0) == settings.epochs && given.shape(1) == rollout.samples(),
                "order: must be int64[n_epochs, N], [" + std::to_string(settings.epochs) + ", " +
                    std::to_string(rollout.samples()) + "], has shape " + shape_text(given));
    }
    const UpdateReport report = [&] {
        const Unlocked unlocked;
        return ppo.update(rollout, settings, pull, samples);
    }();
    return py::make_tuple(report.policy_loss, report.value_loss, report.entropy_loss,
                          report.divergence, report.clip_fraction, report.loss, report.epochs,
                          report.updates);
}

py::array_t<float> gradient(Ppo& ppo, const py::array& observations, const py::array& actions,
                            const py::array& log_probs, const py::array& values,
                            const py::array& advantages, const py::array& returns,
                            const UpdateSettings& settings, const py::array& indices,
                            const DriftArrays* drift) {
    const RolloutView rollout = checked_rollout(ppo, observations, actions, log_probs, values,
                                                advantages, returns);
    const auto* samples = checked_order(indices, "indices", "int64[M]", 1, rollout);
    require(indices.shape(0) > 0, "indices: must name at least one sample");
    const Drift pull = checked_drift(ppo, drift);
    py::array_t<float> flat(static_cast<py::ssize_t>(ppo.parameter_count()));
    float* const data = flat.mutable_data();
    const py::ssize_t count = indices.shape(0);
    {
        const Unlocked unlocked;
        ppo.gradient(rollout, settings, pull, samples, count, data);
    }
    return flat;
}

py::array_t<float> gradient_sum(const Ppo& ppo) {
    py::array_t<float> flat(static_cast<py::ssize_t>(ppo.parameter_count()));
    ppo.read_gradient_sum(flat.mutable_data());
    return flat;
}

py::tuple optimizer_state(const Ppo& ppo) {
    const auto count = static_cast<py::ssize_t>(ppo.parameter_count());
    py::array_t<float> first(count), second(count);
    ppo.read_moments(first.mutable_data(), second.mutable_data());
    return py::make_tuple(ppo.steps(), first, second);
}

void load_optimizer_state(Ppo& ppo, std::int64_t steps, const py::array& first,
                          const py::array& second) {
    require(steps >= 0, "step: must not be negative, is " + std::to_string(steps));
    const float* first_data = checked_parameters(ppo, first, "exp_avg");
    const float* second_data = checked_parameters(ppo, second, "exp_avg_sq");
    for (py::ssize_t i = 0; i < second.size(); ++i) {
        require(second_data[i] >= 0.0f, "exp_avg_sq: no entry may be negative, entry " +
                                            std::to_string(i) + " is");
    }
    ppo.write_moments(steps, first_data, second_data);
}

UpdateSettings make_settings(double learning_rate, double clip_range, double clip_range_vf,
                             double entropy_weight, double value_weight, double max_gradient_norm,
                             bool normalises_advantage, double target_divergence,
                             std::int64_t batch_size, int epochs, double beta1, double beta2,
                             double epsilon) {
    return {learning_rate, clip_range, clip_range_vf, entropy_weight, value_weight,
            max_gradient_norm, normalises_advantage, target_divergence, batch_size, epochs,
            beta1, beta2, epsilon};
}

// A plain metaclass: the class is then to type checkers what it is in the stub.
template <class T>
py::class_<T> plain_class(py::module_& module, const char* name) {
    return {module, name, py::metaclass(reinterpret_cast<PyObject*>(&PyType_Type))};
}

void bind_values(py::module_& module) {
    plain_class<PolicyShape>(module, "PolicyShape")
        .def(py::init(&make_shape), py::arg("observation_size"), py::arg("action_size"),
             py::arg("is_gaussian"), py::arg("pi"), py::arg("vf"), py::arg("is_relu"));
    plain_class<UpdateSettings>(module, "UpdateSettings")
        .def(py::init(&make_settings), py::arg("learning_rate"), py::arg("clip_range"),
             py::arg("clip_range_vf"), py::arg("entropy_weight"), py::arg("value_weight"),
             py::arg("max_gradient_norm"), py::arg("normalises_advantage"),
             py::arg("target_divergence"), py::arg("batch_size"), py::arg("epochs"),
             py::arg("beta1"), py::arg("beta2"), py::arg("epsilon"));
    plain_class<DriftArrays>(module, "Drift")
        .def(py::init([](double proximal, const py::object& anchor, const py::object& correction) {
                 return DriftArrays{proximal, anchor, correction};
             }),
             py::arg("proximal"), py::arg("anchor"), py::arg("correction"));
    py::register_local_exception<Diverged>(module, "Diverged", PyExc_FloatingPointError);
}

}  // namespace

DERL_BINDINGS(ppo, "An actor-critic and its update; native_kernels.ppo is the documented face.") {
    bind_values(module);
    module.def("orthogonal_parameters", &start, py::arg("shape"), py::arg("seed"),
               py::arg("log_std"));
    plain_class<Ppo>(module, "Ppo")
        .def(py::init(&make), py::arg("shape"), py::arg("parameters"), py::arg("threads"))
        .def("parameters", &parameters)
        .def("act", &act, py::arg("observations"), py::arg("seed"), py::arg("step"))
        .def("values", &values, py::arg("observations"))
        .def("best_actions", &best_actions, py::arg("observations"))
        .def("optimizer_state", &optimizer_state)
        .def("load_optimizer_state", &load_optimizer_state, py::arg("step"), py::arg("exp_avg"),
             py::arg("exp_avg_sq"))
        .def("update", &update, py::arg("observations"), py::arg("actions"), py::arg("log_probs"),
             py::arg("values"), py::arg("advantages"), py::arg("returns"), py::arg("settings"),
             py::arg("order"), py::arg("seed"), py::arg("first_epoch"),
             py::arg("drift") = py::none())
        .def("gradient_sum", &gradient_sum)
        .def("gradient", &gradient, py::arg("observations"), py::arg("actions"),
             py::arg("log_probs"), py::arg("values"), py::arg("advantages"), py::arg("returns"),
             py::arg("settings"), py::arg("indices"), py::arg("drift") = py::none());
}

}  // namespace derl::bindings
