// Encoding and decoding of updates float32[P]. The layouts are those of wire/FORMAT.md, before
// compression.
//
// decode() reads bytes that anyone may have written: it needs no memory of its own, looks at every
// byte before it believes it, and says what is wrong.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cpu/dispatch.hpp"

namespace derl {

constexpr std::size_t kCodecBlock = 256;  // elements that share a scale
constexpr float kLargestElement = 1e30f;  // in size; 127 scales of it are still finite
constexpr std::size_t kMaxElements = std::size_t{1} << 30;

enum class CodecKind : std::uint8_t { kHalf = 1, kInt8 = 2, kInt4 = 3, kTopK = 4 };

struct Rounding {
    bool is_stochastic;
    std::uint64_t seed;
};

DERL_DECLARE_AT_LEVELS(
    // the first element that is not finite or greater than kLargestElement in size, or count
    std::size_t first_unfit(const float* x, std::size_t count);
    // x: float32[count], count <= kCodecBlock, elements first, first + 1, ... of the update; codes
    // within +-largest_code. Returns the scale.
    float quantise_block(const float* x, std::size_t first, std::size_t count, float largest_code,
                         Rounding rounding, std::int8_t* codes);
    void dequantise_block(const std::int8_t* codes, float scale, std::size_t count, float* x);
    void floats_to_halves(const float* x, std::size_t count, std::uint16_t* halves);
    void halves_to_floats(const std::uint16_t* halves, std::size_t count, float* x);)

namespace codecs {

// What both sides know before a byte is sent. `kept`: numbers that kTopK keeps, else 0.
struct Layout {
    CodecKind kind;
    std::size_t count;
    std::size_t kept;
};

enum class Flaw {
    kNone,
    kLength,   // not as long as the layout says
    kScale,    // negative, not finite or beyond kLargestElement
    kCode,     // beyond the range of its integers, or 0 with a sign
    kPadding,  // bits that belong to no element are not 0
    kValue,    // a half that is not finite
    kIndex,    // beyond the last element, or written in more bytes than it takes
};

const char* describe(Flaw flaw);

// The most bytes that encode() writes.
std::size_t longest(const Layout& layout);
// The least; decode() refuses fewer.
std::size_t shortest(const Layout& layout);

// x: float32[count], all fit. Returns the number of bytes written to `bytes`.
std::size_t encode(const Layout& layout, const float* x, Rounding rounding, std::uint8_t* bytes);

// x: float32[count], written whole unless there is a flaw.
Flaw decode(const Layout& layout, const std::uint8_t* bytes, std::size_t size, float* x);

// indices: uint32[kept] rising, of the elements that are largest in size; of equal ones the first.
void largest_elements(const float* x, std::size_t count, std::size_t kept, std::uint32_t* indices);

}  // namespace codecs
}  // namespace derl
