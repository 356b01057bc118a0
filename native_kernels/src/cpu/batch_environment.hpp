// A batch of environments with its memory, and the choice of loop: precision, level, threads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "cpu/environments.hpp"

namespace derl {

class BatchEnvironment {
public:
    static constexpr int kMaxCount = 1 << 24;

    // 1 <= count <= kMaxCount, threads >= 1
    BatchEnvironment(const EnvironmentFacts& facts, int count, std::uint64_t seed, bool is_exact,
                     int threads);
    // batch() points into the memory
    BatchEnvironment(const BatchEnvironment&) = delete;
    BatchEnvironment& operator=(const BatchEnvironment&) = delete;

    const EnvironmentFacts& facts() const { return facts_; }
    const Batch& batch() const { return batch_; }
    int count() const { return batch_.count; }
    int threads() const { return threads_; }
    bool is_exact() const { return batch_.exact_states != nullptr; }
    std::size_t stride() const { return static_cast<std::size_t>(batch_.stride); }

    // Episodes are numbered from 0 again.
    void reseed(std::uint64_t seed);
    // A new episode everywhere.
    void start(float* observations);
    // Returns how many episodes ended.
    int step(const float* actions, const StepOutputs& outputs);
    // The same for the environments from begin (a multiple of 16) to end, in the calling thread.
    int step_part(const float* actions, int begin, int end, const StepOutputs& outputs);
    // double[count, states]; new episodes start from these, their numbers as after start.
    void set_states(const double* states, float* observations);
    // Goes on with episodes that another batch was in: their states, steps taken and numbers.
    void resume(const double* states, const std::int32_t* elapsed, const std::int64_t* episodes,
                float* observations);
    void states(double* states) const;

private:
    struct alignas(64) Line {
        std::uint32_t words[16];
    };
    void* allocate(std::size_t bytes_of_entry, int rows);
    void place(const double* states, float* observations);

    const EnvironmentFacts& facts_;
    int threads_;
    std::vector<std::vector<Line>> memory_;
    Batch batch_;
};

}  // namespace derl
