#include "cuda/memory.hpp"

#include <utility>

namespace derl::cuda {

Memory::Memory(std::size_t bytes, int device) : bytes_(bytes), device_(device) {
    const OnDevice chosen(device);
    if (bytes > 0) {
        DERL_CUDA_TRY(cudaMalloc(&data_, bytes));
    }
}

Memory::~Memory() {
    if (data_ != nullptr) {
        static_cast<void>(cudaFree(data_));
    }
}

int device_of(std::uintptr_t address) {
    cudaPointerAttributes attributes{};
    DERL_CUDA_TRY(cudaPointerGetAttributes(&attributes, reinterpret_cast<const void*>(address)));
    const bool is_reachable =
        attributes.type == cudaMemoryTypeDevice || attributes.type == cudaMemoryTypeManaged;
    return is_reachable ? attributes.device : -1;
}

void wait_for(cudaStream_t stream, cudaStream_t earlier) {
    cudaEvent_t reached = nullptr;
    DERL_CUDA_TRY(cudaEventCreateWithFlags(&reached, cudaEventDisableTiming));
    const cudaError_t recorded = cudaEventRecord(reached, earlier);
    const cudaError_t ordered =
        recorded == cudaSuccess ? cudaStreamWaitEvent(stream, reached, 0) : recorded;
    static_cast<void>(cudaEventDestroy(reached));
    DERL_CUDA_TRY(ordered);
}

Stopwatch::Stopwatch() {
    DERL_CUDA_TRY(cudaEventCreateWithFlags(&begin_, cudaEventDefault));
    DERL_CUDA_TRY(cudaEventCreateWithFlags(&end_, cudaEventDefault));
}

Stopwatch::~Stopwatch() {
    static_cast<void>(cudaEventDestroy(begin_));
    static_cast<void>(cudaEventDestroy(end_));
}

void Stopwatch::start(cudaStream_t stream) { DERL_CUDA_TRY(cudaEventRecord(begin_, stream)); }

double Stopwatch::stop(cudaStream_t stream) {
    DERL_CUDA_TRY(cudaEventRecord(end_, stream));
    DERL_CUDA_TRY(cudaEventSynchronize(end_));
    float milliseconds = 0.0f;
    DERL_CUDA_TRY(cudaEventElapsedTime(&milliseconds, begin_, end_));
    return static_cast<double>(milliseconds) * 1e-3;
}

namespace dlpack {

namespace {

struct Shared {
    Managed managed{};
    std::vector<std::int64_t> shape;
    std::shared_ptr<Memory> memory;
};

}  // namespace

Managed* share(std::shared_ptr<Memory> memory, const std::vector<std::int64_t>& shape,
               std::uint8_t code, std::uint8_t bits) {
    auto* shared = new Shared;
    shared->shape = shape;
    shared->managed.tensor = {reinterpret_cast<void*>(memory->address()),
                              kCuda,
                              memory->device(),
                              static_cast<std::int32_t>(shape.size()),
                              code,
                              bits,
                              1,
                              shared->shape.data(),
                              nullptr,
                              0};
    shared->memory = std::move(memory);
    shared->managed.context = shared;
    shared->managed.deleter = [](Managed* managed) {
        delete static_cast<Shared*>(managed->context);
    };
    return &shared->managed;
}

}  // namespace dlpack

}  // namespace derl::cuda
