// The decoders on bytes that anyone may have written, for libFuzzer and for a program of its own.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "cpu/codecs.hpp"

namespace derl::tests {

// Bytes: 1 for the codec, 2 for the number of elements, 1 for the share that top-k keeps, then the
// payload. Returns false if something was decoded that no update may have.
inline bool decode_anything(const std::uint8_t* data, std::size_t size) {
    if (size < 4) {
        return true;
    }
    const auto kind = static_cast<CodecKind>(1 + data[0] % 4);
    const std::size_t count = data[1] | static_cast<std::size_t>(data[2]) << 8;
    const std::size_t kept = kind == CodecKind::kTopK ? count * data[3] / 255 : 0;
    // exactly as long as they must be, so that a sanitizer sees every step beyond
    const std::vector<std::uint8_t> payload(data + 4, data + size);
    std::vector<float> update(count);
    const codecs::Flaw flaw =
        codecs::decode({kind, count, kept}, payload.data(), payload.size(), update.data());
    if (flaw != codecs::Flaw::kNone) {
        return codecs::describe(flaw)[0] != '\0';
    }
    for (const float x : update) {
        if (!std::isfinite(x)) {
            return false;
        }
    }
    return true;
}

}  // namespace derl::tests
