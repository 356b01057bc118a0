// Talking to the CUDA runtime: every call checked, a device chosen and given back.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <stdexcept>
#include <string>

namespace derl::cuda {

// A call of CUDA that failed; Python sees native_kernels.cuda.KernelError.
class KernelError : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

// Throws KernelError with CUDA's name and text for the error and the place that met it.
void check(cudaError_t error, const char* call, const char* file, int line);

// The thread's current device is `device` while this lives.
class OnDevice {
public:
    explicit OnDevice(int device);
    ~OnDevice();
    OnDevice(const OnDevice&) = delete;
    OnDevice& operator=(const OnDevice&) = delete;

private:
    int before_ = 0;
};

// Device memory that is taken and given back in the order of the stream; no copy, because that
// could not name a stream.
class Scratch {
public:
    Scratch(std::size_t bytes, cudaStream_t stream);
    ~Scratch();
    Scratch(const Scratch&) = delete;
    Scratch& operator=(const Scratch&) = delete;

    template <class T>
    T* as() const {
        return static_cast<T*>(data_);
    }

private:
    void* data_ = nullptr;
    cudaStream_t stream_;
};

// host memory -> scratch, in the order of the stream; the host's memory may change on return
void copy_in(void* device, const void* host, std::size_t bytes, cudaStream_t stream);

}  // namespace derl::cuda

#define DERL_CUDA_TRY(call) ::derl::cuda::check((call), #call, __FILE__, __LINE__)
