// Memory, copies, streams and DLPack for native_kernels.cuda.
#include "cuda/bindings.hpp"
#include "cuda/memory.hpp"

namespace derl::cuda {

namespace {

constexpr const char* kPlain = "dltensor";
constexpr const char* kVersioned = "dltensor_versioned";

void copy_to_device(const Memory& memory, const py::array& array, const Place& place) {
    const void* data = array.data();
    const auto bytes = static_cast<std::size_t>(array.nbytes());
    enqueue(place, [&](cudaStream_t stream) { copy_in(at<void>(memory.address()), data, bytes, stream); });
}

void copy_to_host(std::uintptr_t address, py::array& array, const Place& place) {
    void* data = array.mutable_data();
    const auto bytes = static_cast<std::size_t>(array.nbytes());
    enqueue(place, [&](cudaStream_t stream) {
        DERL_CUDA_TRY(cudaMemcpyAsync(data, at<void>(address), bytes, cudaMemcpyDeviceToHost, stream));
        DERL_CUDA_TRY(cudaStreamSynchronize(stream));
    });
}

void synchronize(const Place& place) {
    enqueue(place, [](cudaStream_t stream) { DERL_CUDA_TRY(cudaStreamSynchronize(stream)); });
}

void order(const Place& place, std::uintptr_t earlier) {
    enqueue(place, [&](cudaStream_t stream) {
        wait_for(stream, reinterpret_cast<cudaStream_t>(earlier));
    });
}

// Called when a capsule dies that nobody took the tensor from.
void drop_untaken(PyObject* capsule) {
    if (PyCapsule_IsValid(capsule, kPlain)) {
        auto* managed = static_cast<dlpack::Managed*>(PyCapsule_GetPointer(capsule, kPlain));
        managed->deleter(managed);
    }
}

py::capsule to_dlpack(std::shared_ptr<Memory> memory, const std::vector<std::int64_t>& shape,
                      std::uint8_t code, std::uint8_t bits) {
    dlpack::Managed* managed = dlpack::share(std::move(memory), shape, code, bits);
    return py::reinterpret_steal<py::capsule>(PyCapsule_New(managed, kPlain, &drop_untaken));
}

// Looks into a capsule without taking the tensor from it: who holds the capsule holds the tensor.
py::dict from_dlpack(const py::object& capsule) {
    const dlpack::Tensor* tensor = nullptr;
    bool is_read_only = false;
    if (PyCapsule_IsValid(capsule.ptr(), kVersioned)) {
        const auto* managed =
            static_cast<dlpack::ManagedVersioned*>(PyCapsule_GetPointer(capsule.ptr(), kVersioned));
        if (managed->major != 1) {
            throw py::value_error("DLPack version " + std::to_string(managed->major) +
                                  " is unknown here; known: 1");
        }
        tensor = &managed->tensor;
        is_read_only = (managed->flags & 1) != 0;
    } else if (PyCapsule_IsValid(capsule.ptr(), kPlain)) {
        tensor = &static_cast<dlpack::Managed*>(PyCapsule_GetPointer(capsule.ptr(), kPlain))->tensor;
    } else {
        throw py::type_error("__dlpack__ gave no capsule of a tensor");
    }
    py::dict facts;
    facts["address"] = reinterpret_cast<std::uintptr_t>(tensor->data) + tensor->byte_offset;
    facts["device_type"] = tensor->device_type;
    facts["device"] = tensor->device;
    facts["code"] = tensor->code;
    facts["bits"] = tensor->bits;
    facts["lanes"] = tensor->lanes;
    facts["shape"] = std::vector<std::int64_t>(tensor->shape, tensor->shape + tensor->axes);
    facts["read_only"] = is_read_only;
    if (tensor->strides != nullptr) {
        facts["strides"] = std::vector<std::int64_t>(tensor->strides, tensor->strides + tensor->axes);
    }
    return facts;
}

}  // namespace

void bind_memory(py::module_& module) {
    py::class_<Memory, std::shared_ptr<Memory>>(module, "Memory", py::module_local())
        .def(py::init<std::size_t, int>(), py::arg("bytes"), py::arg("device"))
        .def_property_readonly("address", &Memory::address)
        .def_property_readonly("bytes", &Memory::bytes)
        .def_property_readonly("device", &Memory::device);
    py::class_<Stopwatch>(module, "Stopwatch", py::module_local())
        .def(py::init<>())
        .def("start",
             [](Stopwatch& self, const Place& place) {
                 enqueue(place, [&](cudaStream_t stream) { self.start(stream); });
             },
             py::arg("place"))
        .def("stop",
             [](Stopwatch& self, const Place& place) {
                 double seconds = 0.0;
                 enqueue(place, [&](cudaStream_t stream) { seconds = self.stop(stream); });
                 return seconds;
             },
             py::arg("place"));
    module.def("copy_to_device", &copy_to_device, py::arg("memory"), py::arg("array"),
               py::arg("place"));
    module.def("copy_to_host", &copy_to_host, py::arg("address"), py::arg("array"),
               py::arg("place"));
    module.def("synchronize", &synchronize, py::arg("place"));
    module.def("wait_for", &order, py::arg("place"), py::arg("earlier"));
    module.def("device_of", &device_of, py::arg("address"));
    module.def("to_dlpack", &to_dlpack, py::arg("memory"), py::arg("shape"), py::arg("code"),
               py::arg("bits"));
    module.def("from_dlpack", &from_dlpack, py::arg("capsule"));
}

}  // namespace derl::cuda
