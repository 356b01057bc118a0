#include "cpu/codecs.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

namespace derl::codecs {

namespace {

constexpr std::size_t kChunk = 1024;      // halves converted at a time
constexpr std::size_t kLongestGap = 5;    // bytes of a gap below 2^32, seven bits in each
constexpr std::size_t kScaleBytes = 2;    // the upper half of a float32, whose lower half is 0
constexpr std::uint8_t kZeroNibble = 8;   // a code of four bits is stored plus 8

std::size_t blocks(std::size_t count) { return (count + kCodecBlock - 1) / kCodecBlock; }

float largest_code(CodecKind kind) { return kind == CodecKind::kInt8 ? 127.0f : 7.0f; }

// --- numbers as planes of bytes: first the lowest byte of each, then the next ... ---------------

void put_halves(const float* x, std::size_t count, std::uint8_t* planes) {
    std::uint16_t halves[kChunk];
    for (std::size_t begin = 0; begin < count; begin += kChunk) {
        const std::size_t width = std::min(kChunk, count - begin);
        DERL_AT_LEVEL(floats_to_halves)(x + begin, width, halves);
        for (std::size_t i = 0; i < width; ++i) {
            planes[begin + i] = static_cast<std::uint8_t>(halves[i]);
            planes[count + begin + i] = static_cast<std::uint8_t>(halves[i] >> 8);
        }
    }
}

// The width halves from `begin` on of `count`; false if one is not finite.
bool take_halves(const std::uint8_t* planes, std::size_t count, std::size_t begin,
                 std::size_t width, float* x) {
    std::uint16_t halves[kChunk];
    bool is_finite = true;
    for (std::size_t i = 0; i < width; ++i) {
        halves[i] = static_cast<std::uint16_t>(planes[begin + i] | planes[count + begin + i] << 8);
        is_finite = is_finite && (halves[i] & 0x7c00) != 0x7c00;
    }
    DERL_AT_LEVEL(halves_to_floats)(halves, width, x);
    return is_finite;
}

void put_scale(float scale, std::size_t block, std::size_t scales, std::uint8_t* planes) {
    std::uint32_t bits;
    std::memcpy(&bits, &scale, sizeof bits);
    for (std::size_t plane = 0; plane < kScaleBytes; ++plane) {
        planes[plane * scales + block] = static_cast<std::uint8_t>(bits >> (16 + 8 * plane));
    }
}

float take_scale(const std::uint8_t* planes, std::size_t block, std::size_t scales) {
    std::uint32_t bits = 0;
    for (std::size_t plane = 0; plane < kScaleBytes; ++plane) {
        bits |= static_cast<std::uint32_t>(planes[plane * scales + block])
                << (16 + 8 * plane);
    }
    float scale;
    std::memcpy(&scale, &bits, sizeof scale);
    return scale;
}

// --- codes of four bits, two in a byte, the first in the lower half ------------------------------

void pack(const std::int8_t* codes, std::size_t count, std::uint8_t* bytes) {
    for (std::size_t i = 0; i < count; i += 2) {
        const int low = codes[i] + kZeroNibble;
        const int high = i + 1 < count ? codes[i + 1] + kZeroNibble : 0;
        bytes[i / 2] = static_cast<std::uint8_t>(low | high << 4);
    }
}

Flaw unpack(const std::uint8_t* bytes, std::size_t count, std::int8_t* codes) {
    int smallest = kZeroNibble;
    for (std::size_t i = 0; i < count; ++i) {
        const int nibble = i % 2 == 0 ? bytes[i / 2] & 15 : bytes[i / 2] >> 4;
        smallest = std::min(smallest, nibble);
        codes[i] = static_cast<std::int8_t>(nibble - kZeroNibble);
    }
    if (count % 2 != 0 && bytes[count / 2] >> 4 != 0) {
        return Flaw::kPadding;
    }
    return smallest == 0 ? Flaw::kCode : Flaw::kNone;
}

Flaw take_bytes(const std::uint8_t* bytes, std::size_t count, std::int8_t* codes) {
    std::memcpy(codes, bytes, count);
    return std::find(codes, codes + count, std::int8_t{-128}) == codes + count ? Flaw::kNone
                                                                                : Flaw::kCode;
}

// --- integers with a scale for each block ---------------------------------------------------------

std::size_t encode_integers(const Layout& layout, const float* x, Rounding rounding,
                            std::uint8_t* bytes) {
    const std::size_t scales = blocks(layout.count);
    const bool is_packed = layout.kind == CodecKind::kInt4;
    std::uint8_t* out = bytes + kScaleBytes * scales;
    std::int8_t codes[kCodecBlock];
    for (std::size_t block = 0; block < scales; ++block) {
        const std::size_t first = block * kCodecBlock;
        const std::size_t width = std::min(kCodecBlock, layout.count - first);
        const float scale = DERL_AT_LEVEL(quantise_block)(x + first, first, width,
                                                          largest_code(layout.kind), rounding, codes);
        put_scale(scale, block, scales, bytes);
        if (is_packed) {
            pack(codes, width, out);
            out += (width + 1) / 2;
        } else {
            std::memcpy(out, codes, width);
            out += width;
        }
    }
    return static_cast<std::size_t>(out - bytes);
}

Flaw decode_integers(const Layout& layout, const std::uint8_t* bytes, float* x) {
    const std::size_t scales = blocks(layout.count);
    const bool is_packed = layout.kind == CodecKind::kInt4;
    const std::uint8_t* in = bytes + kScaleBytes * scales;
    std::int8_t codes[kCodecBlock];
    for (std::size_t block = 0; block < scales; ++block) {
        const std::size_t first = block * kCodecBlock;
        const std::size_t width = std::min(kCodecBlock, layout.count - first);
        const float scale = take_scale(bytes, block, scales);
        if (!(scale >= 0.0f && scale <= kLargestElement) || std::signbit(scale)) {
            return Flaw::kScale;
        }
        const Flaw flaw = is_packed ? unpack(in, width, codes) : take_bytes(in, width, codes);
        if (flaw != Flaw::kNone) {
            return flaw;
        }
        in += is_packed ? (width + 1) / 2 : width;
        DERL_AT_LEVEL(dequantise_block)(codes, scale, width, x + first);
    }
    return Flaw::kNone;
}

// --- a few elements, each as the gap since the one before -----------------------------------------

std::uint8_t* put_gap(std::uint32_t gap, std::uint8_t* out) {
    while (gap >= 0x80) {
        *out++ = static_cast<std::uint8_t>(gap | 0x80);
        gap >>= 7;
    }
    *out++ = static_cast<std::uint8_t>(gap);
    return out;
}

std::size_t encode_largest(const Layout& layout, const float* x, std::uint8_t* bytes) {
    std::vector<std::uint32_t> indices(layout.kept);
    std::vector<float> values(layout.kept);
    largest_elements(x, layout.count, layout.kept, indices.data());
    std::uint8_t* out = bytes;
    std::uint32_t next = 0;
    for (std::size_t i = 0; i < layout.kept; ++i) {
        out = put_gap(indices[i] - next, out);
        next = indices[i] + 1;
        values[i] = x[indices[i]];
    }
    put_halves(values.data(), layout.kept, out);
    return static_cast<std::size_t>(out - bytes) + 2 * layout.kept;
}

struct Gaps {
    const std::uint8_t* in;
    const std::uint8_t* end;

    // the next gap, or kMaxElements if there is none that may stand there
    std::size_t take() {
        std::size_t gap = 0;
        for (std::size_t byte = 0; byte < kLongestGap && in != end; ++byte) {
            const std::uint8_t bits = *in++;
            gap |= static_cast<std::size_t>(bits & 0x7f) << (7 * byte);
            if ((bits & 0x80) == 0) {
                const bool is_shortest = byte == 0 || bits != 0;
                return is_shortest ? gap : kMaxElements;
            }
        }
        return kMaxElements;
    }
};

Flaw decode_largest(const Layout& layout, const std::uint8_t* bytes, std::size_t size, float* x) {
    const std::uint8_t* planes = bytes + (size - 2 * layout.kept);
    Gaps gaps{bytes, planes};
    std::fill_n(x, layout.count, 0.0f);
    float values[kChunk];
    std::size_t next = 0;
    for (std::size_t begin = 0; begin < layout.kept; begin += kChunk) {
        const std::size_t width = std::min(kChunk, layout.kept - begin);
        if (!take_halves(planes, layout.kept, begin, width, values)) {
            return Flaw::kValue;
        }
        for (std::size_t i = 0; i < width; ++i) {
            const std::size_t gap = gaps.take();
            if (gap >= layout.count - next) {  // next <= count; the gap itself may be huge
                return Flaw::kIndex;
            }
            x[next + gap] = values[i];
            next += gap + 1;
        }
    }
    return gaps.in == gaps.end ? Flaw::kNone : Flaw::kLength;
}

Flaw decode_halves(const Layout& layout, const std::uint8_t* bytes, float* x) {
    for (std::size_t begin = 0; begin < layout.count; begin += kChunk) {
        const std::size_t width = std::min(kChunk, layout.count - begin);
        if (!take_halves(bytes, layout.count, begin, width, x + begin)) {
            return Flaw::kValue;
        }
    }
    return Flaw::kNone;
}

}  // namespace

const char* describe(Flaw flaw) {
    switch (flaw) {
        case Flaw::kNone: return "nothing is wrong";
        case Flaw::kLength: return "the length does not fit the number of elements";
        case Flaw::kScale: return "a scale is negative, not finite or beyond 1e30";
        case Flaw::kCode: return "a code is beyond the range of its integers";
        case Flaw::kPadding: return "bits that belong to no element are not 0";
        case Flaw::kValue: return "a value is not finite";
        case Flaw::kIndex: return "an index is beyond the last element or takes more bytes than it needs";
    }
    return "unknown";
}

std::size_t longest(const Layout& layout) {
    const std::size_t gap = layout.count < 0x80         ? 1
                            : layout.count < 0x4000     ? 2
                            : layout.count < 0x200000   ? 3
                            : layout.count < 0x10000000 ? 4
                                                        : kLongestGap;
    return layout.kind == CodecKind::kTopK ? (gap + 2) * layout.kept : shortest(layout);
}

std::size_t shortest(const Layout& layout) {
    switch (layout.kind) {
        case CodecKind::kHalf: return 2 * layout.count;
        case CodecKind::kInt8: return kScaleBytes * blocks(layout.count) + layout.count;
        case CodecKind::kInt4: return kScaleBytes * blocks(layout.count) + (layout.count + 1) / 2;
        case CodecKind::kTopK: return 3 * layout.kept;
    }
    return 0;
}

std::size_t encode(const Layout& layout, const float* x, Rounding rounding, std::uint8_t* bytes) {
    switch (layout.kind) {
        case CodecKind::kHalf: put_halves(x, layout.count, bytes); return 2 * layout.count;
        case CodecKind::kInt8:
        case CodecKind::kInt4: return encode_integers(layout, x, rounding, bytes);
        case CodecKind::kTopK: return encode_largest(layout, x, bytes);
    }
    return 0;
}

Flaw decode(const Layout& layout, const std::uint8_t* bytes, std::size_t size, float* x) {
    if (size < shortest(layout) || size > longest(layout)) {
        return Flaw::kLength;
    }
    switch (layout.kind) {
        case CodecKind::kHalf: return decode_halves(layout, bytes, x);
        case CodecKind::kInt8:
        case CodecKind::kInt4: return decode_integers(layout, bytes, x);
        case CodecKind::kTopK: return decode_largest(layout, bytes, size, x);
    }
    return Flaw::kLength;
}

}  // namespace derl::codecs
