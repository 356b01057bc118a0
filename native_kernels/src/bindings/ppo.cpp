// native_kernels._native.ppo: an actor-critic with its optimizer.
#include "cpu/ppo.hpp"

#include <pybind11/stl.h>

#include <string>
#include <utility>

#include "bindings/array_arguments.hpp"

namespace derl::bindings {

namespace {

using Widths = std::vector<int>;

// The face in Python has checked the numbers.
Ppo* make(int observation_size, int action_size, bool is_gaussian, const Widths& policy,
          const Widths& value, bool is_relu, const py::array& parameters, int threads) {
    const PolicyShape shape{observation_size,
                            action_size,
                            is_gaussian ? Distribution::kGaussian : Distribution::kCategorical,
                            is_relu ? Activation::kRelu : Activation::kTanh,
                            policy,
                            value};
    const float* flat = checked<float>(parameters, "parameters", "float32[P]", 1);
    const auto count = static_cast<py::ssize_t>(parameter_count(laid_out(shape)));
    require(parameters.shape(0) == count,
            "parameters: must have " + std::to_string(count) + " entries for this shape, has " +
                std::to_string(parameters.shape(0)));
    return new Ppo(shape, flat, threads);
}

const float* checked_observations(const Ppo& ppo, const py::array& observations) {
    const float* data = checked<float>(observations, "observations", "float32[B, O]", 2);
    require(observations.shape(1) == ppo.network().observation_size,
            "observations: must have " + std::to_string(ppo.network().observation_size) +
                " columns, has shape " + shape_text(observations));
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

}  // namespace

DERL_BINDINGS(ppo, "An actor-critic and its update; native_kernels.ppo is the documented face.") {
    // the plain metaclass, so that the class is to type checkers what it is in the stub
    py::class_<Ppo>(module, "Ppo", py::metaclass(reinterpret_cast<PyObject*>(&PyType_Type)))
        .def(py::init(&make), py::arg("observation_size"), py::arg("action_size"),
             py::arg("is_gaussian"), py::arg("pi"), py::arg("vf"), py::arg("is_relu"),
             py::arg("parameters"), py::arg("threads"))
        .def("parameters", &parameters)
        .def("act", &act, py::arg("observations"), py::arg("seed"), py::arg("step"))
        .def("values", &values, py::arg("observations"))
        .def("best_actions", &best_actions, py::arg("observations"));
}

}  // namespace derl::bindings
