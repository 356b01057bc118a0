// Planes of an encoded update: one bit, or one byte, of each of its numbers.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "cpu/codecs.hpp"

namespace derl::codecs {

constexpr std::size_t kChunk = 1024;    // halves converted at a time
constexpr std::size_t kScaleBytes = 2;  // the upper half of a float32, whose lower half is 0
static_assert(kChunk % 8 == 0, "planes of bits are filled by whole bytes");

// Signs have a plane of their own: those of an update repeat from row to row, which zstd can only
// see where nothing stands between them.

inline std::size_t plane_of_bits(std::size_t count) { return (count + 7) / 8; }

inline void put_bits(const std::uint8_t* values, int bit, std::size_t count, std::uint8_t* plane) {
    for (std::size_t i = 0; i < count; i += 8) {
        const std::size_t width = std::min<std::size_t>(8, count - i);
        unsigned byte = 0;
        for (std::size_t k = 0; k < width; ++k) {
            byte |= (static_cast<unsigned>(values[i + k]) >> bit & 1u) << k;
        }
        plane[i / 8] = static_cast<std::uint8_t>(byte);
    }
}

// False if bits that belong to no element are set.
inline bool take_bits(const std::uint8_t* plane, int bit, std::size_t count, std::uint8_t* values) {
    for (std::size_t i = 0; i < count; ++i) {
        values[i] |= static_cast<std::uint8_t>((plane[i / 8] >> (i % 8) & 1u) << bit);
    }
    return count % 8 == 0 || plane[count / 8] >> (count % 8) == 0;
}

inline std::size_t bytes_of_halves(std::size_t count) { return plane_of_bits(count) + 2 * count; }

// signs, lower bytes, then the seven bits above
inline void put_halves(const float* x, std::size_t count, std::uint8_t* planes) {
    std::uint16_t halves[kChunk];
    std::uint8_t signs[kChunk];
    std::uint8_t* lower = planes + plane_of_bits(count);
    for (std::size_t begin = 0; begin < count; begin += kChunk) {
        const std::size_t width = std::min(kChunk, count - begin);
        DERL_AT_LEVEL(floats_to_halves)(x + begin, width, halves);
        for (std::size_t i = 0; i < width; ++i) {
            signs[i] = static_cast<std::uint8_t>(halves[i] >> 15);
            lower[begin + i] = static_cast<std::uint8_t>(halves[i]);
            lower[count + begin + i] = static_cast<std::uint8_t>(halves[i] >> 8 & 0x7f);
        }
        put_bits(signs, 0, width, planes + begin / 8);
    }
}

// The halves begin ... begin + width of `count`; begin is a multiple of kChunk.
inline Flaw take_halves(const std::uint8_t* planes, std::size_t count, std::size_t begin,
                 std::size_t width, float* x) {
    std::uint16_t halves[kChunk];
    std::uint8_t signs[kChunk] = {};
    const std::uint8_t* lower = planes + plane_of_bits(count) + begin;
    const std::uint8_t* upper = lower + count;
    if (!take_bits(planes + begin / 8, 0, width, signs)) {
        return Flaw::kPadding;
    }
    std::uint8_t largest = 0;
    for (std::size_t i = 0; i < width; ++i) {
        halves[i] = static_cast<std::uint16_t>(lower[i] | upper[i] << 8 | signs[i] << 15);
        largest = std::max(largest, upper[i]);
    }
    DERL_AT_LEVEL(halves_to_floats)(halves, width, x);
    return largest < 0x7c ? Flaw::kNone : Flaw::kValue;
}

inline void put_scale(float scale, std::size_t block, std::size_t scales, std::uint8_t* planes) {
    std::uint32_t bits;
    std::memcpy(&bits, &scale, sizeof bits);
    for (std::size_t plane = 0; plane < kScaleBytes; ++plane) {
        planes[plane * scales + block] = static_cast<std::uint8_t>(bits >> (16 + 8 * plane));
    }
}

inline float take_scale(const std::uint8_t* planes, std::size_t block, std::size_t scales) {
    std::uint32_t bits = 0;
    for (std::size_t plane = 0; plane < kScaleBytes; ++plane) {
        bits |= static_cast<std::uint32_t>(planes[plane * scales + block])
                << (16 + 8 * plane);
    }
    float scale;
    std::memcpy(&scale, &bits, sizeof scale);
    return scale;
}

}  // namespace derl::codecs
