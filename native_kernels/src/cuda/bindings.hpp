// What the binding files of native_kernels._cuda share. Addresses are integers: whose memory lies
// there, its dtype, shape, order and device are checked in native_kernels.cuda, over any library's
// arrays, before anything here is called.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstdint>

#include "cuda/kernels.hpp"

namespace derl::cuda {

namespace py = pybind11;

// Which device, and which of its streams (cudaStream_t as a number; 0 or 1 is the default one).
struct Place {
    int device;
    std::uintptr_t stream;

    cudaStream_t handle() const { return reinterpret_cast<cudaStream_t>(stream); }
};

using Address = std::uintptr_t;

template <class T>
T* at(Address address) {
    return reinterpret_cast<T*>(address);
}

// Runs on the place's device without the interpreter lock.
template <class Work>
void enqueue(const Place& place, Work work) {
    const py::gil_scoped_release unlocked;
    const OnDevice chosen(place.device);
    work(place.handle());
}

// A batch and what its steps write, as Python hands them over.
struct DeviceBatch {
    Batch batch;
    StepOutputs outputs;
};

void bind_memory(py::module_& module);
void bind_kernels(py::module_& module);
void bind_environments(py::module_& module);

}  // namespace derl::cuda
