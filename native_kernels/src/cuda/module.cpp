// native_kernels._cuda: the devices there are, and how well kernels fit them.
#include "cuda/bindings.hpp"

namespace derl::cuda {

namespace {

int device_count() {
    int count = 0;
    DERL_CUDA_TRY(cudaGetDeviceCount(&count));
    return count;
}

int attribute(cudaDeviceAttr which, int device) {
    int value = 0;
    DERL_CUDA_TRY(cudaDeviceGetAttribute(&value, which, device));
    return value;
}

py::dict describe(int device) {
    cudaDeviceProp properties{};
    DERL_CUDA_TRY(cudaGetDeviceProperties(&properties, device));
    int driver = 0;
    int runtime = 0;
    DERL_CUDA_TRY(cudaDriverGetVersion(&driver));
    DERL_CUDA_TRY(cudaRuntimeGetVersion(&runtime));
    py::dict facts;
    facts["name"] = std::string(properties.name);
    facts["compute_capability"] = properties.major * 10 + properties.minor;
    facts["multiprocessors"] = properties.multiProcessorCount;
    facts["threads_per_multiprocessor"] = properties.maxThreadsPerMultiProcessor;
    facts["memory_bytes"] = properties.totalGlobalMem;
    facts["clock_khz"] = attribute(cudaDevAttrClockRate, device);
    facts["memory_clock_khz"] = attribute(cudaDevAttrMemoryClockRate, device);
    facts["memory_bus_bits"] = attribute(cudaDevAttrGlobalMemoryBusWidth, device);
    facts["driver"] = driver;
    facts["runtime"] = runtime;
    return facts;
}

py::list kernel_facts(int device) {
    const OnDevice chosen(device);
    py::list kernels;
    for (const KernelFacts& kernel : all_facts()) {
        cudaFuncAttributes compiled{};
        DERL_CUDA_TRY(cudaFuncGetAttributes(&compiled, kernel.function));
        int blocks = 0;
        DERL_CUDA_TRY(cudaOccupancyMaxActiveBlocksPerMultiprocessor(
            &blocks, kernel.function, kernel.threads, kernel.shared_bytes));
        py::dict facts;
        facts["name"] = kernel.name;
        facts["registers"] = compiled.numRegs;
        facts["local_bytes"] = compiled.localSizeBytes;
        facts["threads"] = kernel.threads;
        facts["shared_bytes"] = kernel.shared_bytes;
        facts["blocks_per_multiprocessor"] = blocks;
        kernels.append(facts);
    }
    return kernels;
}

void translate(std::exception_ptr raised) {
    try {
        if (raised) {
            std::rethrow_exception(raised);
        }
    } catch (const KernelError& error) {
        // the class is Python's, so that it can be named where this module was never built
        const auto type = py::module_::import("native_kernels.cuda.errors").attr("KernelError");
        PyErr_SetString(type.ptr(), error.what());
    }
}

}  // namespace

}  // namespace derl::cuda

PYBIND11_MODULE(_cuda, module) {
    using namespace derl::cuda;
    module.doc() = "CUDA kernels over addresses; the documented face is native_kernels.cuda.";
    py::register_exception_translator(&translate);
    py::class_<Place>(module, "Place", py::module_local())
        .def(py::init<int, std::uintptr_t>(), py::arg("device"), py::arg("stream"));
    module.def("device_count", &device_count);
    module.def("describe", &describe, py::arg("device"));
    module.def("kernel_facts", &kernel_facts, py::arg("device"));
    bind_memory(module);
    bind_kernels(module);
    bind_environments(module);
}
