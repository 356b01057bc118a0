// The largest elements of an update, by the bits of their sizes: whole numbers in the order of the
// floats, so that no rounding and no processor can change what is chosen.
#include <cstring>
#include <vector>

#include "cpu/codecs.hpp"

namespace derl::codecs {

namespace {

std::uint32_t size_bits(float x) {
    std::uint32_t bits;
    std::memcpy(&bits, &x, sizeof bits);
    return bits & 0x7fffffffu;
}

struct Threshold {
    std::uint32_t bits;  // of the smallest size that is kept
    std::size_t ties;    // how many of that size are kept
};

// 31 bits in three steps, from the top: in which bucket the kept-th largest lies
Threshold threshold(const float* x, std::size_t count, std::size_t kept) {
    constexpr int kShifts[] = {20, 10, 0};
    std::uint32_t prefix = 0;
    std::uint32_t known = 0;  // mask of the bits that `prefix` has
    std::size_t left = kept;
    for (const int shift : kShifts) {
        const std::size_t width = shift == 20 ? 2048 : 1024;
        std::vector<std::size_t> buckets(width);
        for (std::size_t i = 0; i < count; ++i) {
            const std::uint32_t bits = size_bits(x[i]);
            if ((bits & known) == prefix) {
                ++buckets[(bits >> shift) & (width - 1)];
            }
        }
        std::size_t bucket = width - 1;
        while (buckets[bucket] < left) {
            left -= buckets[bucket--];
        }
        prefix |= static_cast<std::uint32_t>(bucket) << shift;
        known |= static_cast<std::uint32_t>(width - 1) << shift;
    }
    return {prefix, left};
}

}  // namespace

void largest_elements(const float* x, std::size_t count, std::size_t kept, std::uint32_t* indices) {
    if (kept == 0) {
        return;
    }
    Threshold limit = threshold(x, count, kept);
    std::size_t found = 0;
    for (std::size_t i = 0; i < count && found < kept; ++i) {
        const std::uint32_t bits = size_bits(x[i]);
        if (bits > limit.bits || (bits == limit.bits && limit.ties > 0)) {
            limit.ties -= bits == limit.bits ? 1 : 0;
            indices[found++] = static_cast<std::uint32_t>(i);
        }
    }
}

}  // namespace derl::codecs
