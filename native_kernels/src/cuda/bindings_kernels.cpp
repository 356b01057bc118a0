// The kernels as Python functions over addresses.
#include "cuda/bindings.hpp"

namespace derl::cuda {

namespace {

void bind_aggregation(py::module_& module) {
    module.def(
        "weighted_mean",
        [](std::uintptr_t updates, const py::array_t<double>& shares, std::size_t parameters,
           std::uintptr_t mean, const Place& place) {
            const double* share = shares.data();
            const auto clients = static_cast<std::size_t>(shares.size());
            enqueue(place, [&](cudaStream_t stream) {
                weighted_mean(at<const float>(updates), share, clients, parameters, at<float>(mean),
                              stream);
            });
        },
        py::arg("updates"), py::arg("shares"), py::arg("parameters"), py::arg("mean"),
        py::arg("place"));
}

}  // namespace

void bind_kernels(py::module_& module) { bind_aggregation(module); }

}  // namespace derl::cuda
