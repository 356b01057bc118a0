// native_kernels._native.elementary: elementary functions as the kernels compute them, for tests.
#include <string>

#include "bindings/array_arguments.hpp"
#include "cpu/elementary.hpp"

namespace derl::bindings {

namespace {

template <Elementary kFunction>
py::array_t<float> evaluate(const py::array& x) {
    const float* data = checked<float>(x, "x", "float32[N]", 1);
    py::array_t<float> y(x.shape(0));
    DERL_AT_LEVEL(elementary)(kFunction, data, static_cast<std::size_t>(x.shape(0)),
                              y.mutable_data());
    return y;
}

py::array_t<float> fused(const py::array& a, const py::array& b, const py::array& c) {
    const float* first = checked<float>(a, "a", "float32[N]", 1);
    const float* second = checked<float>(b, "b", "float32[N]", 1);
    const float* third = checked<float>(c, "c", "float32[N]", 1);
    require_length(b, "b", a.shape(0), "a");
    require_length(c, "c", a.shape(0), "a");
    py::array_t<float> y(a.shape(0));
    DERL_AT_LEVEL(fused_multiply_add)(first, second, third, static_cast<std::size_t>(a.shape(0)),
                                      y.mutable_data());
    return y;
}

}  // namespace

DERL_BINDINGS(elementary, "float32[N] -> float32[N], at the processor level in force.") {
    module.def("exp", &evaluate<Elementary::kExp>, py::arg("x"));
    module.def("log", &evaluate<Elementary::kLog>, py::arg("x"));
    module.def("tanh", &evaluate<Elementary::kTanh>, py::arg("x"));
    module.def("sine", &evaluate<Elementary::kSine>, py::arg("x"));
    module.def("cosine", &evaluate<Elementary::kCosine>, py::arg("x"));
    module.def("fused_multiply_add", &fused, py::arg("a"), py::arg("b"), py::arg("c"));
}

}  // namespace derl::bindings
