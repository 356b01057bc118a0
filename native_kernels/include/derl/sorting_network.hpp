// Batcher's odd-even merge sort (1968) as straight-line code: no branches, so that V may be one
// value or one in each lane. Any NaN must have been refused before: a comparator loses it.
#pragma once

#include <cstdint>

#include <derl/host_device.hpp>
#include <derl/scalar.hpp>

namespace derl {

struct Comparator {
    std::uint16_t low;   // gets the smaller
    std::uint16_t high;  // gets the larger
};

template <int kWires>
struct SortingNetwork {
    Comparator comparators[kWires * 8];
    int count;

    constexpr SortingNetwork() : comparators{}, count(0) {
        for (int run = 1; run < kWires; run *= 2) {
            for (int apart = run; apart >= 1; apart /= 2) {
                for (int begin = apart % run; begin + apart < kWires; begin += 2 * apart) {
                    for (int wire = begin; wire < begin + apart && wire + apart < kWires; ++wire) {
                        if (wire / (2 * run) == (wire + apart) / (2 * run)) {
                            comparators[count].low = static_cast<std::uint16_t>(wire);
                            comparators[count].high = static_cast<std::uint16_t>(wire + apart);
                            ++count;
                        }
                    }
                }
            }
        }
    }
};

template <int kWires>
inline constexpr SortingNetwork<kWires> kSortingNetwork{};

template <int kWires, int kBegin, int kEnd, class V>
DERL_HOST_DEVICE void apply_comparators(V* wires) {
    if constexpr (kEnd - kBegin == 1) {
        constexpr Comparator pair = kSortingNetwork<kWires>.comparators[kBegin];
        const V low = min(wires[pair.low], wires[pair.high]);
        wires[pair.high] = max(wires[pair.low], wires[pair.high]);
        wires[pair.low] = low;
    } else if constexpr (kEnd - kBegin > 1) {
        constexpr int kMiddle = (kBegin + kEnd) / 2;
        apply_comparators<kWires, kBegin, kMiddle>(wires);
        apply_comparators<kWires, kMiddle, kEnd>(wires);
    }
}

// Sorts ascending; at most 32 wires (the code is 2 operations for each of up to 191 comparators).
template <int kWires, class V>
DERL_HOST_DEVICE void sort_wires(V (&wires)[kWires]) {
    static_assert(kWires <= 32);
    apply_comparators<kWires, 0, kSortingNetwork<kWires>.count>(wires);
}

}  // namespace derl
