// Columns split over threads. What is computed for a column must not depend on the split.
#pragma once

#include <algorithm>
#include <cstddef>
#include <thread>
#include <vector>

namespace derl::cpu {

// Calls work(part, begin, end) for consecutive ranges of [0, count), each on a thread of its own
// and, but for the last, a multiple of `grain` long; returns when all are done. The number of parts
// is at most `threads` and at least 1, or as many as there are grains.
template <class Work>
void over_ranges(int threads, std::size_t count, std::size_t grain, Work work) {
    const std::size_t grains = (count + grain - 1) / grain;
    const std::size_t parts =
        std::max<std::size_t>(1, std::min(static_cast<std::size_t>(std::max(threads, 1)), grains));
    const auto bound = [&](std::size_t part) {
        return part == parts ? count : grains * part / parts * grain;
    };
    std::vector<std::thread> others;
    others.reserve(parts - 1);
    for (std::size_t part = 1; part < parts; ++part) {
        others.emplace_back(work, part, bound(part), bound(part + 1));
    }
    work(std::size_t{0}, bound(0), bound(1));
    for (std::thread& other : others) {
        other.join();
    }
}

}  // namespace derl::cpu
