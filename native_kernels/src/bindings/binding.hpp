// How a file of bindings joins the module: DERL_BINDINGS(name, "doc") { module.def(...); } makes the
// submodule native_kernels._native.<name>; module.cpp knows none of them by name.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include "cpu/float_environment.hpp"

namespace derl::bindings {

namespace py = pybind11;

// While kernels run: other Python threads may, and numbers are rounded as IEEE 754 has it.
struct Unlocked {
    py::gil_scoped_release gil;
    IeeeFloats modes;
};

struct Registration {
    Registration(const char* name, const char* doc, void (*bind)(py::module_&));
};

}  // namespace derl::bindings

#define DERL_BINDINGS(name, doc)                                                      \
    static void bind_##name(::pybind11::module_& module);                             \
    static const ::derl::bindings::Registration registration_##name(#name, doc,       \
                                                                    &bind_##name);    \
    static void bind_##name(::pybind11::module_& module)
