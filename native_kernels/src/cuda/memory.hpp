// Device memory with an owner, and tensors that others hand over by DLPack.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "cuda/runtime.hpp"

namespace derl::cuda {

// Bytes on one device, given back when the last owner is gone. Giving back waits for the device
// (cudaFree does), so that work in flight never loses its memory. No copy: that would need a stream.
class Memory {
public:
    Memory(std::size_t bytes, int device);
    ~Memory();
    Memory(const Memory&) = delete;
    Memory& operator=(const Memory&) = delete;

    std::uintptr_t address() const { return reinterpret_cast<std::uintptr_t>(data_); }
    std::size_t bytes() const { return bytes_; }
    int device() const { return device_; }

private:
    void* data_ = nullptr;
    std::size_t bytes_;
    int device_;
};

// The device whose memory lies at the address; -1 if it is no memory that a kernel may touch.
int device_of(std::uintptr_t address);

// `stream` goes on only when all that `earlier` holds by now is done. Nothing waits on the host.
void wait_for(cudaStream_t stream, cudaStream_t earlier);

// The device's own time between two points of a stream.
class Stopwatch {
public:
    Stopwatch();
    ~Stopwatch();
    Stopwatch(const Stopwatch&) = delete;
    Stopwatch& operator=(const Stopwatch&) = delete;

    void start(cudaStream_t stream);
    // Waits for the stream to get here; seconds since start().
    double stop(cudaStream_t stream);

private:
    cudaEvent_t begin_ = nullptr;
    cudaEvent_t end_ = nullptr;
};

// DLPack's structures (dlpack.h, version 1): a layout that many libraries agreed on.
namespace dlpack {

inline constexpr int kCuda = 2;
inline constexpr int kCudaManaged = 13;

struct Tensor {
    void* data;
    std::int32_t device_type;
    std::int32_t device;
    std::int32_t axes;
    std::uint8_t code;  // 0 int, 1 uint, 2 float, 6 bool
    std::uint8_t bits;
    std::uint16_t lanes;
    std::int64_t* shape;
    std::int64_t* strides;  // in elements; null means C order
    std::uint64_t byte_offset;
};

struct Managed {
    Tensor tensor;
    void* context;
    void (*deleter)(Managed*);
};

struct ManagedVersioned {
    std::uint32_t major;
    std::uint32_t minor;
    void* context;
    void (*deleter)(ManagedVersioned*);
    std::uint64_t flags;
    Tensor tensor;
};

// A tensor over the memory, which it keeps alive until its deleter is called.
Managed* share(std::shared_ptr<Memory> memory, const std::vector<std::int64_t>& shape,
               std::uint8_t code, std::uint8_t bits);

}  // namespace dlpack

}  // namespace derl::cuda
