#include "cpu/codecs.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "cpu/any/codec_planes.hpp"

namespace derl::codecs {

namespace {

constexpr std::size_t kLongestGap = 5;   // bytes of a gap below 2^32, seven bits in each
constexpr int kSmallBits = 3;            // of the size of a code of four bits
static_assert(kCodecBlock % 8 == 0, "planes of bits are filled by whole bytes");

std::size_t blocks(std::size_t count) { return (count + kCodecBlock - 1) / kCodecBlock; }

float largest_code(CodecKind kind) { return kind == CodecKind::kInt8 ? 127.0f : 7.0f; }

// --- integers with a scale for each block ---------------------------------------------------------

// Signs, then sizes: a byte each, or three planes of bits.
struct IntegerPlanes {
    std::size_t sign_bytes;
    bool is_small;

    explicit IntegerPlanes(const Layout& layout)
        : sign_bytes(plane_of_bits(layout.count)), is_small(layout.kind == CodecKind::kInt4) {}

    void put(const std::int8_t* codes, std::size_t first, std::size_t width,
             std::uint8_t* planes) const {
        std::uint8_t signs[kCodecBlock], sizes[kCodecBlock];
        for (std::size_t i = 0; i < width; ++i) {
            signs[i] = codes[i] < 0;
            sizes[i] = static_cast<std::uint8_t>(codes[i] < 0 ? -codes[i] : codes[i]);
        }
        put_bits(signs, 0, width, planes + first / 8);
        std::uint8_t* rest = planes + sign_bytes;
        if (!is_small) {
            std::memcpy(rest + first, sizes, width);
            return;
        }
        for (int bit = 0; bit < kSmallBits; ++bit) {
            put_bits(sizes, bit, width, rest + static_cast<std::size_t>(bit) * sign_bytes + first / 8);
        }
    }

    Flaw take(const std::uint8_t* planes, std::size_t first, std::size_t width,
              std::int8_t* codes) const {
        std::uint8_t signs[kCodecBlock] = {}, sizes[kCodecBlock] = {};
        bool is_padded = take_bits(planes + first / 8, 0, width, signs);
        const std::uint8_t* rest = planes + sign_bytes;
        if (is_small) {
            for (int bit = 0; bit < kSmallBits; ++bit) {
                const std::size_t plane = static_cast<std::size_t>(bit) * sign_bytes;
                is_padded = take_bits(rest + plane + first / 8, bit, width, sizes) && is_padded;
            }
        } else {
            std::memcpy(sizes, rest + first, width);
        }
        bool is_sound = true;
        for (std::size_t i = 0; i < width; ++i) {
            // 0 has no sign; sizes beyond 127 are not written
            is_sound = is_sound && sizes[i] < 0x80 && signs[i] <= sizes[i];
            codes[i] = static_cast<std::int8_t>(signs[i] != 0 ? -(sizes[i] & 0x7f) : sizes[i] & 0x7f);
        }
        return !is_padded ? Flaw::kPadding : is_sound ? Flaw::kNone : Flaw::kCode;
    }
};

void encode_integers(const Layout& layout, const float* x, Rounding rounding,
                     std::uint8_t* bytes) {
    const std::size_t scales = blocks(layout.count);
    const IntegerPlanes planes(layout);
    std::int8_t codes[kCodecBlock];
    for (std::size_t block = 0; block < scales; ++block) {
        const std::size_t first = block * kCodecBlock;
        const std::size_t width = std::min(kCodecBlock, layout.count - first);
        const float scale = DERL_AT_LEVEL(quantise_block)(x + first, first, width,
                                                          largest_code(layout.kind), rounding, codes);
        put_scale(scale, block, scales, bytes);
        planes.put(codes, first, width, bytes + kScaleBytes * scales);
    }
}

Flaw decode_integers(const Layout& layout, const std::uint8_t* bytes, float* x) {
    const std::size_t scales = blocks(layout.count);
    const IntegerPlanes planes(layout);
    std::int8_t codes[kCodecBlock];
    for (std::size_t block = 0; block < scales; ++block) {
        const std::size_t first = block * kCodecBlock;
        const std::size_t width = std::min(kCodecBlock, layout.count - first);
        const float scale = take_scale(bytes, block, scales);
        if (!(scale >= 0.0f && scale <= kLargestElement) || std::signbit(scale)) {
            return Flaw::kScale;
        }
        const Flaw flaw = planes.take(bytes + kScaleBytes * scales, first, width, codes);
        if (flaw != Flaw::kNone) {
            return flaw;
        }
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
    return static_cast<std::size_t>(out - bytes) + bytes_of_halves(layout.kept);
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
    const std::uint8_t* planes = bytes + (size - bytes_of_halves(layout.kept));
    Gaps gaps{bytes, planes};
    std::fill_n(x, layout.count, 0.0f);
    float values[kChunk];
    std::size_t next = 0;
    for (std::size_t begin = 0; begin < layout.kept; begin += kChunk) {
        const std::size_t width = std::min(kChunk, layout.kept - begin);
        const Flaw flaw = take_halves(planes, layout.kept, begin, width, values);
        if (flaw != Flaw::kNone) {
            return flaw;
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
        const Flaw flaw = take_halves(bytes, layout.count, begin, width, x + begin);
        if (flaw != Flaw::kNone) {
            return flaw;
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
        case Flaw::kCode: return "a code is out of range, or 0 with a sign";
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
    return layout.kind == CodecKind::kTopK ? gap * layout.kept + bytes_of_halves(layout.kept)
                                           : shortest(layout);
}

std::size_t shortest(const Layout& layout) {
    const std::size_t bits = plane_of_bits(layout.count);
    const std::size_t scales = kScaleBytes * blocks(layout.count);
    switch (layout.kind) {
        case CodecKind::kHalf: return bytes_of_halves(layout.count);
        case CodecKind::kInt8: return scales + bits + layout.count;
        case CodecKind::kInt4: return scales + (1 + kSmallBits) * bits;
        case CodecKind::kTopK: return layout.kept + bytes_of_halves(layout.kept);
    }
    return 0;
}

std::size_t encode(const Layout& layout, const float* x, Rounding rounding, std::uint8_t* bytes) {
    switch (layout.kind) {
        case CodecKind::kHalf: put_halves(x, layout.count, bytes); break;
        case CodecKind::kInt8:
        case CodecKind::kInt4: encode_integers(layout, x, rounding, bytes); break;
        case CodecKind::kTopK: return encode_largest(layout, x, bytes);
    }
    return shortest(layout);
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
