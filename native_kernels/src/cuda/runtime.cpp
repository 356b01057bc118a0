#include "cuda/runtime.hpp"

namespace derl::cuda {

void check(cudaError_t error, const char* call, const char* file, int line) {
    if (error == cudaSuccess) {
        return;
    }
    cudaGetLastError();  // or the next launch would be told of this error again
    const std::string path = file;
    throw KernelError(std::string(cudaGetErrorName(error)) + ": " + cudaGetErrorString(error) +
                      " (" + call + " at " + path.substr(path.find_last_of('/') + 1) + ":" +
                      std::to_string(line) + ")");
}

OnDevice::OnDevice(int device) {
    DERL_CUDA_TRY(cudaGetDevice(&before_));
    DERL_CUDA_TRY(cudaSetDevice(device));
}

OnDevice::~OnDevice() { static_cast<void>(cudaSetDevice(before_)); }

Scratch::Scratch(std::size_t bytes, cudaStream_t stream) : stream_(stream) {
    DERL_CUDA_TRY(cudaMallocAsync(&data_, bytes, stream));
}

Scratch::~Scratch() { static_cast<void>(cudaFreeAsync(data_, stream_)); }

void copy_in(void* device, const void* host, std::size_t bytes, cudaStream_t stream) {
    DERL_CUDA_TRY(cudaMemcpyAsync(device, host, bytes, cudaMemcpyHostToDevice, stream));
}

}  // namespace derl::cuda
