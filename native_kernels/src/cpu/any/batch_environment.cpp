#include "cpu/batch_environment.hpp"

#include <algorithm>
#include <vector>

#include "cpu/any/parallel.hpp"

namespace derl {

namespace {

// Starting a thread costs as much as stepping some ten thousand environments.
constexpr int kEnvironmentsPerThread = 1 << 15;

}  // namespace

BatchEnvironment::BatchEnvironment(const EnvironmentFacts& facts, int count, std::uint64_t seed,
                                   bool is_exact, int threads)
    : facts_(facts), threads_(threads), batch_{} {
    batch_.id = facts.id;
    batch_.count = count;
    batch_.stride = (count + 15) / 16 * 16;
    batch_.seed = seed;
    if (is_exact) {
        batch_.exact_states = static_cast<double*>(allocate(sizeof(double), facts.states));
    } else {
        batch_.states = static_cast<float*>(allocate(sizeof(float), facts.states));
    }
    batch_.elapsed = static_cast<std::int32_t*>(allocate(sizeof(std::int32_t), 1));
    batch_.episode = static_cast<std::uint32_t*>(allocate(sizeof(std::uint32_t), 1));
    batch_.finished = static_cast<std::int32_t*>(allocate(sizeof(std::int32_t), 1));
}

void* BatchEnvironment::allocate(std::size_t bytes_of_entry, int rows) {
    const std::size_t bytes = bytes_of_entry * stride() * static_cast<std::size_t>(rows);
    return memory_.emplace_back(bytes / sizeof(Line)).data();
}

void BatchEnvironment::reseed(std::uint64_t seed) {
    batch_.seed = seed;
    std::fill_n(batch_.episode, stride(), 0u);
}

void BatchEnvironment::start(float* observations) {
    if (is_exact()) {
        start_exactly(batch_, 0, count(), observations);
    } else {
        DERL_AT_LEVEL(start_environments)(batch_, 0, count(), observations);
    }
}

int BatchEnvironment::step_part(const float* actions, int begin, int end,
                                const StepOutputs& outputs) {
    if (is_exact()) {
        const IeeeFloats modes;
        return step_exactly(batch_, actions, begin, end, outputs);
    }
    return DERL_AT_LEVEL(step_environments)(batch_, actions, begin, end, outputs);
}

int BatchEnvironment::step(const float* actions, const StepOutputs& outputs) {
    const int parts = std::min(threads_, count() / kEnvironmentsPerThread);
    if (parts <= 1) {
        return step_part(actions, 0, count(), outputs);
    }
    std::vector<int> finished(static_cast<std::size_t>(parts));
    cpu::over_ranges(parts, static_cast<std::size_t>(count()), 16,
                     [&](std::size_t part, std::size_t begin, std::size_t end) {
                         finished[part] = step_part(actions, static_cast<int>(begin),
                                                    static_cast<int>(end), outputs);
                     });
    int sum = 0;
    for (const int n : finished) {
        sum += n;
    }
    return sum;
}

void BatchEnvironment::set_states(const double* states, float* observations) {
    start(observations);
    place(states, observations);
}

void BatchEnvironment::resume(const double* states, const std::int32_t* elapsed,
                              const std::int64_t* episodes, float* observations) {
    for (std::size_t e = 0; e < static_cast<std::size_t>(count()); ++e) {
        batch_.elapsed[e] = elapsed[e];
        batch_.episode[e] = static_cast<std::uint32_t>(episodes[e] + 1);
    }
    place(states, observations);
}

void BatchEnvironment::place(const double* states, float* observations) {
    const std::size_t width = static_cast<std::size_t>(facts_.states);
    for (std::size_t e = 0; e < static_cast<std::size_t>(count()); ++e) {
        for (std::size_t s = 0; s < width; ++s) {
            if (is_exact()) {
                batch_.exact_states[s * stride() + e] = states[e * width + s];
            } else {
                batch_.states[s * stride() + e] = static_cast<float>(states[e * width + s]);
            }
        }
    }
    if (is_exact()) {
        observe_exactly(batch_, 0, count(), observations);
    } else {
        DERL_AT_LEVEL(observe_environments)(batch_, 0, count(), observations);
    }
}

void BatchEnvironment::states(double* states) const {
    const std::size_t width = static_cast<std::size_t>(facts_.states);
    for (std::size_t e = 0; e < static_cast<std::size_t>(count()); ++e) {
        for (std::size_t s = 0; s < width; ++s) {
            states[e * width + s] = is_exact() ? batch_.exact_states[s * stride() + e]
                                               : double{batch_.states[s * stride() + e]};
        }
    }
}

}  // namespace derl
