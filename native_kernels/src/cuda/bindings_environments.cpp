// Batches of environments and rollouts for native_kernels.cuda.
#include <vector>

#include "cpu/network_layout.hpp"
#include "cuda/bindings.hpp"

namespace derl::cuda {

namespace {

DeviceBatch batch_of(int id, int count, std::uint64_t seed, Address states, Address elapsed,
                     Address episodes, Address observations, Address rewards, Address terminated,
                     Address truncated, Address final_observations) {
    DeviceBatch made{};
    made.batch.id = static_cast<EnvironmentId>(id);
    made.batch.count = count;
    made.batch.stride = count;
    made.batch.seed = seed;
    made.batch.states = at<float>(states);
    made.batch.elapsed = at<std::int32_t>(elapsed);
    made.batch.episode = at<std::uint32_t>(episodes);
    made.outputs = {at<float>(observations), at<float>(rewards), at<std::uint8_t>(terminated),
                    at<std::uint8_t>(truncated), at<float>(final_observations)};
    return made;
}

void bind_batch(py::module_& module) {
    py::class_<DeviceBatch>(module, "Batch", py::module_local())
        .def(py::init(&batch_of), py::arg("id"), py::arg("count"), py::arg("seed"),
             py::arg("states"), py::arg("elapsed"), py::arg("episodes"), py::arg("observations"),
             py::arg("rewards"), py::arg("terminated"), py::arg("truncated"),
             py::arg("final_observations"))
        .def("start",
             [](const DeviceBatch& self, const Place& place) {
                 enqueue(place, [&](cudaStream_t stream) {
                     start_environments(self.batch, self.outputs.observations, stream);
                 });
             },
             py::arg("place"))
        .def("observe",
             [](const DeviceBatch& self, const Place& place) {
                 enqueue(place, [&](cudaStream_t stream) {
                     observe_environments(self.batch, self.outputs.observations, stream);
                 });
             },
             py::arg("place"))
        .def("step",
             [](const DeviceBatch& self, Address actions, const Place& place) {
                 enqueue(place, [&](cudaStream_t stream) {
                     step_environments(self.batch, at<const void>(actions), self.outputs, stream);
                 });
             },
             py::arg("actions"), py::arg("place"));
}

// The layout of an actor-critic; its weights lie where Python says.
struct Policy {
    ActorCritic network;

    Policy(int observation_size, int action_size, bool is_gaussian, const std::vector<int>& pi,
           const std::vector<int>& vf, bool is_relu)
        : network(laid_out({observation_size, action_size,
                            is_gaussian ? Distribution::kGaussian : Distribution::kCategorical,
                            is_relu ? Activation::kRelu : Activation::kTanh, pi, vf})) {}

    py::array_t<float> packed(const py::array_t<float>& parameters) const {
        if (static_cast<std::size_t>(parameters.size()) != parameter_count(network)) {
            throw py::value_error("parameters: must have " +
                                  std::to_string(parameter_count(network)) + " entries, has " +
                                  std::to_string(parameters.size()));
        }
        py::array_t<float> result(static_cast<py::ssize_t>(network.size));
        pack(network, parameters.data(), result.mutable_data());
        return result;
    }
};

void collect_rollout(const Policy& policy, const DeviceBatch& batch, Address parameters,
                     const std::vector<std::uint64_t>& course, double gamma,
                     const std::vector<Address>& state, const std::vector<Address>& outputs,
                     const Place& place) {
    if (course.size() != 3 || state.size() != 2 || outputs.size() != 9) {
        throw py::value_error("collect: must have 3 numbers, 2 arrays of state and 9 of outputs");
    }
    ActorCritic network = policy.network;
    network.parameters = at<const float>(parameters);
    const Course how{course[0], course[1], course[2], static_cast<float>(gamma),
                     widest_layer(network), at<double>(state[0]), at<std::uint8_t>(state[1])};
    const RolloutOutputs rollout{
        at<float>(outputs[0]), at<void>(outputs[1]),   at<float>(outputs[2]),
        at<float>(outputs[3]), at<float>(outputs[4]),  at<std::uint8_t>(outputs[5]),
        at<double>(outputs[6]), at<std::int32_t>(outputs[7]), at<float>(outputs[8])};
    enqueue(place, [&](cudaStream_t stream) {
        collect(network, batch.batch, how, rollout, batch.outputs.observations, stream);
    });
}

}  // namespace

void bind_environments(py::module_& module) {
    bind_batch(module);
    module.attr("WIDEST_ROLLOUT") = kWidestRollout;
    py::class_<Policy>(module, "Policy", py::module_local())
        .def(py::init<int, int, bool, const std::vector<int>&, const std::vector<int>&, bool>(),
             py::arg("observation_size"), py::arg("action_size"), py::arg("is_gaussian"),
             py::arg("pi"), py::arg("vf"), py::arg("is_relu"))
        .def_property_readonly("widest",
                               [](const Policy& self) { return widest_layer(self.network); })
        .def("packed", &Policy::packed, py::arg("parameters"));
    // course: seed, steps before, steps; state: sums, starts; outputs: as in kernels.hpp
    module.def("collect", &collect_rollout, py::arg("policy"), py::arg("batch"),
               py::arg("parameters"), py::arg("course"), py::arg("gamma"), py::arg("state"),
               py::arg("outputs"), py::arg("place"));
}

}  // namespace derl::cuda
