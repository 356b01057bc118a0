// As much of CUDA's runtime as native_kernels/src/cuda uses, over host memory, for tests on machines
// without a GPU: two devices, memory that knows its device, streams that do everything at once.
// What is asked of it is written down (log()), so that tests see launches and the order of streams.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <string>
#include <utility>

enum cudaError_t {
    cudaSuccess = 0,
    cudaErrorInvalidValue = 1,
    cudaErrorMemoryAllocation = 2,
    cudaErrorNoDevice = 100,
    cudaErrorInvalidDevice = 101
};
enum cudaMemcpyKind { cudaMemcpyHostToDevice, cudaMemcpyDeviceToHost, cudaMemcpyDeviceToDevice };
enum cudaMemoryType { cudaMemoryTypeUnregistered, cudaMemoryTypeHost, cudaMemoryTypeDevice,
                      cudaMemoryTypeManaged };
enum cudaDeviceAttr {
    cudaDevAttrClockRate,
    cudaDevAttrMemoryClockRate,
    cudaDevAttrGlobalMemoryBusWidth,
};
enum { cudaEventDefault = 0, cudaEventDisableTiming = 2 };
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize };

using cudaStream_t = struct EmulatedStream*;
using cudaEvent_t = struct EmulatedEvent*;

struct cudaPointerAttributes {
    cudaMemoryType type;
    int device;
};
struct cudaDeviceProp {
    char name[256];
    int major, minor, multiProcessorCount, maxThreadsPerMultiProcessor;
    std::size_t totalGlobalMem;
};
struct cudaFuncAttributes {
    int numRegs;
    std::size_t localSizeBytes;
};

namespace emulated {

inline constexpr int kDevices = 2;
// what a card of compute capability 7.5 offers a block
inline constexpr std::size_t kSharedBytes = 64 * 1024;
inline constexpr int kThreadsPerBlock = 1024;

struct Block {
    std::size_t bytes;
    int device;
};

struct State {
    std::mutex mutex;
    std::map<std::uintptr_t, Block> blocks;
    std::map<cudaEvent_t, cudaStream_t> events;
    std::string log;
    int failures = 0;  // so many allocations to come are refused
};

inline State& state() {
    static State one;
    return one;
}

inline int& current_device() {
    static thread_local int device = 0;
    return device;
}

inline void note(const std::string& text, cudaStream_t stream) {
    const std::lock_guard<std::mutex> held(state().mutex);
    state().log += text + " device " + std::to_string(current_device()) + " stream " +
                   std::to_string(reinterpret_cast<std::uintptr_t>(stream)) + "\n";
}

}  // namespace emulated

extern "C" {
__attribute__((visibility("default"), used)) inline const char* derl_emulated_log() {
    return emulated::state().log.c_str();
}
__attribute__((visibility("default"), used)) inline void derl_emulated_clear() {
    emulated::state().log.clear();
}
__attribute__((visibility("default"), used)) inline void derl_emulated_refuse(int allocations) {
    emulated::state().failures = allocations;
}
__attribute__((visibility("default"), used)) inline int derl_emulated_blocks() {
    return static_cast<int>(emulated::state().blocks.size());
}
}

inline const char* cudaGetErrorName(cudaError_t error) {
    return error == cudaErrorMemoryAllocation ? "cudaErrorMemoryAllocation"
           : error == cudaErrorInvalidDevice  ? "cudaErrorInvalidDevice"
                                              : "cudaErrorInvalidValue";
}
inline const char* cudaGetErrorString(cudaError_t error) {
    return error == cudaErrorMemoryAllocation ? "out of memory" : "invalid";
}
inline cudaError_t cudaGetLastError() { return cudaSuccess; }
inline cudaError_t cudaGetDeviceCount(int* count) {
    *count = emulated::kDevices;
    return cudaSuccess;
}
inline cudaError_t cudaGetDevice(int* device) {
    *device = emulated::current_device();
    return cudaSuccess;
}
inline cudaError_t cudaSetDevice(int device) {
    if (device < 0 || device >= emulated::kDevices) {
        return cudaErrorInvalidDevice;
    }
    emulated::current_device() = device;
    return cudaSuccess;
}
inline cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr, int) {
    *value = 1;
    return cudaSuccess;
}
inline cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
    std::strcpy(properties->name, "emulated");
    properties->major = 7;
    properties->minor = 5;
    properties->multiProcessorCount = 1;
    properties->maxThreadsPerMultiProcessor = emulated::kThreadsPerBlock;
    properties->totalGlobalMem = std::size_t{1} << 30;
    return cudaSuccess;
}
inline cudaError_t cudaDriverGetVersion(int* version) { return *version = 13000, cudaSuccess; }
inline cudaError_t cudaRuntimeGetVersion(int* version) { return *version = 13000, cudaSuccess; }
inline cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void*) {
    *attributes = {0, 0};
    return cudaSuccess;
}
inline cudaError_t cudaFuncSetAttribute(const void*, cudaFuncAttribute, int) { return cudaSuccess; }
inline cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, const void*,
                                                                 int threads, std::size_t) {
    *blocks = emulated::kThreadsPerBlock / threads;
    return cudaSuccess;
}

// Fresh memory holds NaNs, so that what is read before it was written shows.
inline cudaError_t cudaMalloc(void** data, std::size_t bytes) {
    auto& all = emulated::state();
    const std::lock_guard<std::mutex> held(all.mutex);
    if (all.failures > 0) {
        --all.failures;
        return cudaErrorMemoryAllocation;
    }
    *data = std::aligned_alloc(256, (bytes + 255) / 256 * 256);
    std::memset(*data, 0xff, bytes);
    all.blocks[reinterpret_cast<std::uintptr_t>(*data)] = {bytes, emulated::current_device()};
    return cudaSuccess;
}
inline cudaError_t cudaFree(void* data) {
    auto& all = emulated::state();
    const std::lock_guard<std::mutex> held(all.mutex);
    if (data != nullptr && all.blocks.erase(reinterpret_cast<std::uintptr_t>(data)) == 0) {
        return cudaErrorInvalidValue;
    }
    std::free(data);
    return cudaSuccess;
}
inline cudaError_t cudaMallocAsync(void** data, std::size_t bytes, cudaStream_t) {
    return cudaMalloc(data, bytes);
}
inline cudaError_t cudaFreeAsync(void* data, cudaStream_t) { return cudaFree(data); }
inline cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* data) {
    auto& all = emulated::state();
    const std::lock_guard<std::mutex> held(all.mutex);
    const auto address = reinterpret_cast<std::uintptr_t>(data);
    auto after = all.blocks.upper_bound(address);
    *attributes = {cudaMemoryTypeUnregistered, -1};
    if (after != all.blocks.begin()) {
        --after;
        if (address < after->first + after->second.bytes) {
            *attributes = {cudaMemoryTypeDevice, after->second.device};
        }
    }
    return cudaSuccess;
}
inline cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind,
                                   cudaStream_t stream) {
    emulated::note("copy", stream);
    if (bytes > 0) {
        std::memcpy(to, from, bytes);
    }
    return cudaSuccess;
}
inline cudaError_t cudaMemsetAsync(void* to, int value, std::size_t bytes, cudaStream_t stream) {
    emulated::note("set", stream);
    std::memset(to, value, bytes);
    return cudaSuccess;
}
inline cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
    emulated::note("synchronize", stream);
    return cudaSuccess;
}
inline cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
    *event = reinterpret_cast<cudaEvent_t>(new char);
    return cudaSuccess;
}
inline cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
    emulated::state().events[event] = stream;
    return cudaSuccess;
}
inline cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
    const auto earlier = reinterpret_cast<std::uintptr_t>(emulated::state().events[event]);
    emulated::note("wait for stream " + std::to_string(earlier), stream);
    return cudaSuccess;
}
inline cudaError_t cudaEventSynchronize(cudaEvent_t) { return cudaSuccess; }
inline cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t, cudaEvent_t) {
    *milliseconds = 1.0f;
    return cudaSuccess;
}
inline cudaError_t cudaEventDestroy(cudaEvent_t event) {
    emulated::state().events.erase(event);
    delete reinterpret_cast<char*>(event);
    return cudaSuccess;
}
