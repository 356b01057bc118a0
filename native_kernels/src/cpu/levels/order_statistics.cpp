#include "cpu/order_statistics.hpp"

#include "cpu/simd/lanes.hpp"

namespace derl::DERL_LEVEL {

namespace {

using R = Register;
// Floats ahead in each row that are asked for, into the second-level cache: the first is too small
// for 2 KiB of every row.
constexpr std::size_t kFar = 512;

// Sorts kRows rows of a block's columns into the block. Returns whether none is NaN.
template <int kRows>
bool sort_rows(const float* rows, std::size_t stride, float* block) {
    R::Mask ordered = R(0.0f) == R(0.0f);
    for (int column = 0; column < kBlockColumns; column += R::kLanes) {
        R wires[kRows];
#pragma GCC unroll 32
        for (int row = 0; row < kRows; ++row) {
            wires[row] = R::load(rows + row * stride + column);
            __builtin_prefetch(rows + row * stride + column + kFar, 0, 2);
            ordered = ordered & (wires[row] == wires[row]);
        }
        sort_wires(wires);
#pragma GCC unroll 32
        for (int row = 0; row < kRows; ++row) {
            wires[row].store(block + row * kBlockColumns + column);
        }
    }
    return !any(~ordered);
}

using SortRows = bool (*)(const float*, std::size_t, float*);
#define DERL_FOUR_SIZES(n) &sort_rows<n>, &sort_rows<n + 1>, &sort_rows<n + 2>, &sort_rows<n + 3>
constexpr SortRows kSortRows[kLargestGroup] = {
    DERL_FOUR_SIZES(1),  DERL_FOUR_SIZES(5),  DERL_FOUR_SIZES(9),  DERL_FOUR_SIZES(13),
    DERL_FOUR_SIZES(17), DERL_FOUR_SIZES(21), DERL_FOUR_SIZES(25), DERL_FOUR_SIZES(29)};

void merge(const SelectionPlan& plan, float* block) {
    for (std::uint32_t i = 0; i < plan.comparator_count; ++i) {
        float* low = block + plan.comparators[i].low * kBlockColumns;
        float* high = block + plan.comparators[i].high * kBlockColumns;
        for (int column = 0; column < kBlockColumns; column += R::kLanes) {
            const R a = R::load(low + column), b = R::load(high + column);
            min(a, b).store(low + column);
            max(a, b).store(high + column);
        }
    }
}

// A sorted sequence in one register's columns of a block.
struct Sequence {
    const float* columns;
    const std::uint16_t* wires;
    std::uint32_t size;
    DERL_LANE R operator[](std::uint32_t place) const {
        return R::load(columns + wires[place] * kBlockColumns);
    }
};

DERL_LANE R sum_of(Sequence x, std::uint32_t first, std::uint32_t last) {
    R sum(0.0f);
    for (std::uint32_t i = first; i < last; ++i) {
        sum = sum + x[i];
    }
    return sum;
}

// Of the union of x and y: the element at `place` and, if wanted, the one after it, summed.
// Among the place + 1 pairs (x[i], y[place - i]) the smaller ones are the place + 1 smallest of the
// union, so their largest is the one sought; the next is the smallest of the others.
DERL_LANE R sum_of_middle(Sequence x, Sequence y, std::uint32_t place, bool two) {
    const std::uint32_t from = place >= y.size ? place - y.size + 1 : 0;
    const std::uint32_t to = place < x.size ? place + 1 : x.size;
    const R infinite(__builtin_inff());
    R low = -infinite, high = infinite;
    for (std::uint32_t i = from; i < to; ++i) {
        const R a = x[i], b = y[place - i];
        low = max(low, min(a, b));
        high = min(high, max(a, b));
    }
    if (place >= y.size) {
        low = max(low, x[place - y.size]);
    }
    if (place >= x.size) {
        low = max(low, y[place - x.size]);
    }
    if (place + 1 < x.size) {
        high = min(high, x[place + 1]);
    }
    if (place + 1 < y.size) {
        high = min(high, y[place + 1]);
    }
    return two ? (R(0.0f) + low) + high : R(0.0f) + low;
}

// Of the union of x and y without its `low` smallest and `high` largest; low + high is at most the
// size of either. The larger ones of the pairs (x[i], y[low - 1 - i]) and all from x[low] and y[low]
// on are the union without its `low` smallest; likewise from above.
DERL_LANE R sum_of_trimmed(Sequence x, Sequence y, std::uint32_t low, std::uint32_t high) {
    R below(0.0f), above(0.0f);
    for (std::uint32_t i = 0; i < low; ++i) {
        below = below + max(x[i], y[low - 1 - i]);
    }
    for (std::uint32_t i = 0; i < high; ++i) {
        above = above + min(x[x.size - high + i], y[y.size - 1 - i]);
    }
    return (below + above) + (sum_of(x, low, x.size - high) + sum_of(y, low, y.size - high));
}

DERL_LANE R finish(const SelectionPlan& plan, const float* columns) {
    const Sequence x{columns, plan.wires, plan.lower};
    const Sequence y{columns, plan.wires + plan.lower, plan.rows - plan.lower};
    const std::uint32_t kept = plan.last - plan.first;
    const R sum = y.size == 0 ? sum_of(x, plan.first, plan.last)
                  : kept <= 2 ? sum_of_middle(x, y, plan.first, kept == 2)
                              : sum_of_trimmed(x, y, plan.first, plan.rows - plan.last);
    return sum / R(static_cast<float>(kept));
}

// rows may be the block itself
bool select_block(const SelectionPlan& plan, const float* rows, std::size_t stride, float* block,
                  float* mean) {
    bool ordered = true;
    std::size_t row = 0;
    for (std::uint32_t i = 0; i < plan.group_count; ++i) {
        const SortRows sort = kSortRows[plan.groups[i] - 1];
        ordered = sort(rows + row * stride, stride, block + row * kBlockColumns) && ordered;
        row += plan.groups[i];
    }
    merge(plan, block);
    for (int column = 0; column < kBlockColumns; column += R::kLanes) {
        finish(plan, block + column).store(mean + column);
    }
    return ordered;
}

}  // namespace

bool select_columns(const SelectionPlan& plan, const float* updates, std::size_t stride,
                    std::size_t begin, std::size_t end, float* block, float* mean) {
    bool ordered = true;
    for (; begin + kBlockColumns <= end; begin += kBlockColumns) {
        ordered = select_block(plan, updates + begin, stride, block, mean + begin) && ordered;
    }
    if (begin < end) {
        const std::size_t left = end - begin;
        alignas(64) float last[kBlockColumns];
        for (std::size_t row = 0; row < plan.rows; ++row) {
            for (std::size_t column = 0; column < kBlockColumns; ++column) {
                block[row * kBlockColumns + column] =
                    column < left ? updates[row * stride + begin + column] : 0.0f;
            }
        }
        ordered = select_block(plan, block, kBlockColumns, block, last) && ordered;
        for (std::size_t column = 0; column < left; ++column) {
            mean[begin + column] = last[column];
        }
    }
    return ordered;
}

}  // namespace derl::DERL_LEVEL
