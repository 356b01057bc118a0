// Columns split over threads. What is computed for a column must not depend on the split.
#pragma once

#include <algorithm>
#include <cstddef>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

namespace derl::cpu {

// Calls work(part, begin, end) for consecutive ranges of [0, count), each on a thread of its own
// and, but for the last, a multiple of `grain` long; returns when all are done. The number of parts
// is at most `threads` and at least 1, or as many as there are grains. Where the system refuses
// a thread the caller does its part. What one part throws is thrown here, after all have ended.
template <class Work>
void over_ranges(int threads, std::size_t count, std::size_t grain, Work work) {
    const std::size_t grains = (count + grain - 1) / grain;
    const std::size_t parts =
        std::max<std::size_t>(1, std::min(static_cast<std::size_t>(std::max(threads, 1)), grains));
    const auto bound = [&](std::size_t part) {
        return part == parts ? count : grains * part / parts * grain;
    };
    std::mutex mutex;
    std::exception_ptr thrown;
    const auto guarded = [&](std::size_t part) noexcept {
        try {
            work(part, bound(part), bound(part + 1));
        } catch (...) {
            const std::lock_guard<std::mutex> lock(mutex);
            thrown = std::current_exception();
        }
    };
    std::vector<std::thread> others;
    others.reserve(parts - 1);
    std::size_t next = 1;
    try {
        for (; next < parts; ++next) {
            others.emplace_back(guarded, next);
        }
    } catch (const std::system_error&) {
    }
    guarded(0);
    for (; next < parts; ++next) {
        guarded(next);
    }
    for (std::thread& other : others) {
        other.join();
    }
    if (thrown) {
        std::rethrow_exception(thrown);
    }
}

}  // namespace derl::cpu
