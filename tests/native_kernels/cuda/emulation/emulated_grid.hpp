// A grid of threads in plain C++: the kernels' own text, started by loops.
//
// Blocks run one after the other. The threads of a block that shares memory are real threads, so
// that __syncthreads means what it says and the thread sanitizer sees races; those of other blocks
// run one after the other. Shared memory starts as NaNs.
#pragma once

#include <barrier>
#include <cstddef>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "cuda/runtime.hpp"

#define DERL_KERNEL void
#define DERL_DEVICE inline
#define DERL_DEVICE_CALL inline
#define DERL_SHARED(Type, name) Type* name = static_cast<Type*>(emulated::shared_memory())
#define __launch_bounds__(...)
#define __grid_constant__

namespace emulated {

struct Index {
    unsigned x = 0, y = 0, z = 0;
};

struct Team {
    explicit Team(int threads) : barrier(threads) {}
    std::barrier<> barrier;
};

inline thread_local Index thread_index, block_index, block_size, grid_size;
inline thread_local Team* team = nullptr;
inline thread_local void* shared = nullptr;

inline void* shared_memory() { return shared; }

}  // namespace emulated

#define threadIdx ::emulated::thread_index
#define blockIdx ::emulated::block_index
#define blockDim ::emulated::block_size
#define gridDim ::emulated::grid_size

inline void __syncthreads() {
    if (emulated::team != nullptr) {
        emulated::team->barrier.arrive_and_wait();
    }
}

namespace derl::cuda {

template <class... Parameters, class... Arguments>
void launch(const char* name, void (*kernel)(Parameters...), const Shape& shape,
            cudaStream_t stream, Arguments... arguments) {
    if (shape.blocks == 0) {
        return;
    }
    emulated::note(name, stream);
    const bool is_fit = shape.blocks > 0 && shape.threads > 0 &&
                        shape.threads <= emulated::kThreadsPerBlock &&
                        shape.shared_bytes <= emulated::kSharedBytes;
    check(is_fit ? cudaSuccess : cudaErrorInvalidValue, name, __FILE__, __LINE__);
    std::vector<double> shared(shape.shared_bytes / sizeof(double) + 1);
    const auto run = [&](unsigned block, unsigned thread, emulated::Team* team) {
        emulated::grid_size = {static_cast<unsigned>(shape.blocks), 1, 1};
        emulated::block_size = {static_cast<unsigned>(shape.threads), 1, 1};
        emulated::block_index = {block, 0, 0};
        emulated::thread_index = {thread, 0, 0};
        emulated::team = team;
        emulated::shared = shared.data();
        kernel(static_cast<Parameters>(arguments)...);
    };
    const auto blocks = static_cast<unsigned>(shape.blocks);
    const auto threads = static_cast<unsigned>(shape.threads);
    if (shape.shared_bytes == 0) {
        for (unsigned block = 0; block < blocks; ++block) {
            for (unsigned thread = 0; thread < threads; ++thread) {
                run(block, thread, nullptr);
            }
        }
        return;
    }
    emulated::Team team(shape.threads);
    std::vector<std::thread> running;
    for (unsigned thread = 0; thread < threads; ++thread) {
        running.emplace_back([&, thread] {
            for (unsigned block = 0; block < blocks; ++block) {
                if (thread == 0) {
                    std::memset(shared.data(), 0xff, shared.size() * sizeof(double));
                }
                team.barrier.arrive_and_wait();
                run(block, thread, &team);
                team.barrier.arrive_and_wait();
            }
        });
    }
    for (std::thread& one : running) {
        one.join();
    }
}

}  // namespace derl::cuda
