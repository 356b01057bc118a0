// Means of order statistics (coordinate median, trimmed mean) over the rows of float32[N, P].
//
// The rows are sorted in groups that fit a register file; larger groups are then merged in memory
// by a list of comparators; two sorted halves are not merged but cut (finish_* in the level's file).
#pragma once

#include <cstddef>
#include <cstdint>

#include <derl/sorting_network.hpp>

#include "cpu/dispatch.hpp"

namespace derl {

constexpr int kLargestGroup = 32;
constexpr int kBlockColumns = 64;

// What to do to each column. Wires are places of a block in memory, one for each row.
struct SelectionPlan {
    std::uint32_t rows;
    std::uint32_t first;  // kept are the order statistics first, ..., last - 1
    std::uint32_t last;
    const std::uint8_t* groups;  // sizes of the groups of successive rows to sort
    std::uint32_t group_count;
    const Comparator* comparators;
    std::uint32_t comparator_count;
    // [rows]: the wires of the lower half, ascending, then of the upper half, ascending
    const std::uint16_t* wires;
    std::uint32_t lower;  // size of the lower half; rows: there is one sorted sequence
};

namespace cpu {
// updates: float32[rows, parameters]; mean: float32[parameters]. Any number of threads gives the
// same bits. False where a NaN was met: then mean is not to be used.
bool mean_of_order_statistics(const float* updates, std::size_t rows, std::size_t parameters,
                              std::size_t first, std::size_t last, int threads, float* mean);
}  // namespace cpu

DERL_DECLARE_AT_LEVELS(
    // Columns [begin, end) of float32[rows, stride]; block: float32[rows, kBlockColumns].
    bool select_columns(const SelectionPlan& plan, const float* updates, std::size_t stride,
                        std::size_t begin, std::size_t end, float* block, float* mean);)

}  // namespace derl
