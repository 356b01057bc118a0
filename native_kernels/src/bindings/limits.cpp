// native_kernels._native.limits: loops that reach this core's limits, to be timed by the caller.
#include <cstddef>
#include <cstring>
#include <string>

#include "bindings/array_arguments.hpp"
#include "cpu/limits.hpp"

namespace derl::bindings {

namespace {

std::size_t checked_rounds(py::ssize_t rounds) {
    require(rounds > 0, "rounds: must be above zero, is " + std::to_string(rounds));
    return static_cast<std::size_t>(rounds);
}

std::size_t checked_count(const py::array& x, py::ssize_t block) {
    require(x.shape(0) > 0 && x.shape(0) % block == 0,
            "x: the number of entries must be a multiple of " + std::to_string(block) + ", is " +
                std::to_string(x.shape(0)));
    return static_cast<std::size_t>(x.shape(0));
}

std::size_t multiply_add_chains(py::ssize_t rounds) {
    const std::size_t count = checked_rounds(rounds);
    float starts[192];
    for (int i = 0; i < 192; ++i) {
        starts[i] = static_cast<float>(i) / 192.0f;
    }
    float sink = 0.0f;
    // a factor below 1 keeps the chains finite and away from subnormal numbers
    return DERL_AT_LEVEL(multiply_add_chains)(count, 0.999f, 0.001f, starts, &sink);
}

void repeat_tanh(const py::array& x, py::ssize_t rounds, py::array& y) {
    const float* from = checked<float>(x, "x", "float32[N]", 1);
    float* to = checked_output<float>(y, "y", "float32[N]", 1);
    const std::size_t count = checked_count(x, 64);
    require_length(y, "y", x.shape(0), "x");
    DERL_AT_LEVEL(repeat_tanh)(from, count, checked_rounds(rounds), to);
}

void repeat_exp(const py::array& x, py::ssize_t rounds, py::array& y) {
    const float* from = checked<float>(x, "x", "float32[N]", 1);
    float* to = checked_output<float>(y, "y", "float32[N]", 1);
    const std::size_t count = checked_count(x, 64);
    require_length(y, "y", x.shape(0), "x");
    DERL_AT_LEVEL(repeat_exp)(from, count, checked_rounds(rounds), to);
}

float repeat_read(const py::array& x, py::ssize_t rounds) {
    const float* from = checked<float>(x, "x", "float32[N]", 1);
    return DERL_AT_LEVEL(repeat_read)(from, checked_count(x, 128), checked_rounds(rounds));
}

void repeat_copy(const py::array& x, py::ssize_t rounds, py::array& y) {
    const float* from = checked<float>(x, "x", "float32[N]", 1);
    float* to = checked_output<float>(y, "y", "float32[N]", 1);
    require_length(y, "y", x.shape(0), "x");
    const std::size_t bytes = static_cast<std::size_t>(x.shape(0)) * sizeof(float);
    for (std::size_t left = checked_rounds(rounds); left > 0; --left) {
        std::memmove(to, from, bytes);
        asm volatile("" ::: "memory");
    }
}

}  // namespace

DERL_BINDINGS(limits, "Loops that reach one core's limits at the processor level in force.") {
    module.def("multiply_add_chains", &multiply_add_chains, py::arg("rounds"),
               "Runs independent chains of multiply-adds; returns the operations done.");
    module.def("repeat_tanh", &repeat_tanh, py::arg("x"), py::arg("rounds"), py::arg("y"),
               "x float32[N] -> y float32[N], N a multiple of 64");
    module.def("repeat_exp", &repeat_exp, py::arg("x"), py::arg("rounds"), py::arg("y"),
               "x float32[N] -> y float32[N], N a multiple of 64");
    module.def("repeat_read", &repeat_read, py::arg("x"), py::arg("rounds"),
               "Reads x float32[N], N a multiple of 128; returns a sum.");
    module.def("repeat_copy", &repeat_copy, py::arg("x"), py::arg("rounds"), py::arg("y"),
               "x float32[N] -> y float32[N]");
}

}  // namespace derl::bindings
