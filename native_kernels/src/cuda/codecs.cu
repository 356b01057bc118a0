// Updates as halves or small integers, in the layout of cpu/codecs.hpp, byte for byte.
//
// A kernel cannot refuse: what the CPU's encoder refuses becomes bytes that every decoder refuses,
// and what its decoder refuses becomes NaN.
#include <derl/half.hpp>
#include <derl/philox.hpp>
#include <derl/quantise.hpp>

#include "cpu/codecs.hpp"
#include "cuda/kernels.hpp"
#include "cuda/launch.cuh"

namespace derl::cuda {

namespace {

constexpr int kWords = 4;  // elements of a thread: what one call of philox has numbers for
constexpr int kBlockThreads = kCodecBlock / kWords;
constexpr std::int32_t kNan = 0x7fc00000;
constexpr int kZeroNibble = 8;

DERL_DEVICE bool is_fit(float x) { return abs(x) <= kLargestElement; }

DERL_KERNEL encode_halves_kernel(const float* x, std::size_t count, std::uint8_t* bytes) {
    for (std::size_t i = first_of_thread(); i < count; i += grid_stride()) {
        const std::int32_t half = half_of_float(is_fit(x[i]) ? x[i] : float_of_bits(kNan));
        bytes[i] = static_cast<std::uint8_t>(half);
        bytes[count + i] = static_cast<std::uint8_t>(half >> 8);
    }
}

DERL_KERNEL decode_halves_kernel(const std::uint8_t* bytes, std::size_t count, float* x) {
    for (std::size_t i = first_of_thread(); i < count; i += grid_stride()) {
        const std::int32_t half = bytes[i] | bytes[count + i] << 8;
        const bool is_finite = (half & 0x7c00) != 0x7c00;
        x[i] = is_finite ? float_of_half<float>(half) : float_of_bits(kNan);
    }
}

// The greatest size in the block of threads; infinite if an element is unfit.
DERL_DEVICE float largest_of_block(float largest, float* of_threads) {
    of_threads[threadIdx.x] = largest;
    __syncthreads();
    for (unsigned thread = 0; thread < kBlockThreads; ++thread) {
        largest = max(of_threads[thread], largest);
    }
    __syncthreads();  // before the next round writes
    return largest;
}

DERL_DEVICE void put_scale(float scale, std::size_t block, std::size_t scales, std::uint8_t* bytes) {
    const std::int32_t bits = bits_of(scale);
    bytes[block] = static_cast<std::uint8_t>(bits >> 16);
    bytes[scales + block] = static_cast<std::uint8_t>(bits >> 24);
}

// A block of threads for each block of elements, each thread with four of them.
template <int kBits>
DERL_KERNEL encode_integers_kernel(const float* x, std::size_t count, Rounding rounding,
                                   std::uint8_t* bytes) {
    DERL_SHARED(float, of_threads);
    constexpr float kLimit = kBits == 8 ? 127.0f : 7.0f;
    const std::size_t scales = (count + kCodecBlock - 1) / kCodecBlock;
    std::uint8_t* out = bytes + 2 * scales;
    for (std::size_t block = blockIdx.x; block < scales; block += gridDim.x) {
        const std::size_t first = block * kCodecBlock + threadIdx.x * kWords;
        float elements[kWords];
        float largest = 0.0f;
        for (int word = 0; word < kWords; ++word) {
            elements[word] = first + word < count ? x[first + word] : 0.0f;
            const float size = abs(elements[word]);
            largest = max(is_fit(size) ? size : __builtin_inff(), largest);
        }
        largest = largest_of_block(largest, of_threads);
        const bool fits = is_fit(largest);
        const float scale = fits ? scale_of(largest, kLimit) : float_of_bits(kNan);
        if (threadIdx.x == 0) {
            put_scale(scale, block, scales, bytes);
        }
        const auto random = random_bits(rounding.seed, Purpose::kRounding,
                                        static_cast<std::int32_t>(first / kWords), 0);
        const float numbers[kWords] = {uniform<float>(random.a), uniform<float>(random.b),
                                       uniform<float>(random.c), uniform<float>(random.d)};
        std::int32_t codes[kWords];
        for (int word = 0; word < kWords; ++word) {
            const float units = fits ? in_units(elements[word], scale, kLimit) : 0.0f;
            codes[word] = rounding.is_stochastic ? rounded_stochastically(units, numbers[word])
                                                 : rounded_to_nearest(units);
        }
        for (int word = 0; word < kWords; word += 8 / kBits) {
            if (first + word >= count) {
                break;
            }
            if constexpr (kBits == 8) {
                out[first + word] = static_cast<std::uint8_t>(codes[word]);
            } else {
                const int high = first + word + 1 < count ? codes[word + 1] + kZeroNibble : 0;
                out[(first + word) / 2] =
                    static_cast<std::uint8_t>((codes[word] + kZeroNibble) | high << 4);
            }
        }
    }
}

template <int kBits>
DERL_KERNEL decode_integers_kernel(const std::uint8_t* bytes, std::size_t count, float* x) {
    const std::size_t scales = (count + kCodecBlock - 1) / kCodecBlock;
    const std::uint8_t* in = bytes + 2 * scales;
    for (std::size_t i = first_of_thread(); i < count; i += grid_stride()) {
        const std::size_t block = i / kCodecBlock;
        const float scale = float_of_bits(bytes[block] << 16 |
                                          static_cast<std::int32_t>(
                                              static_cast<std::uint32_t>(bytes[scales + block])
                                              << 24));
        int code;
        if constexpr (kBits == 8) {
            code = static_cast<std::int8_t>(in[i]);
        } else {
            code = (i % 2 == 0 ? in[i / 2] & 15 : in[i / 2] >> 4) - kZeroNibble;
        }
        const bool is_sound = bits_of(scale) >= 0 && scale <= kLargestElement &&
                              code != -(1 << (kBits - 1));
        x[i] = is_sound ? static_cast<float>(code) * scale : float_of_bits(kNan);
    }
}

Shape shape_for_blocks(std::size_t count) {
    const std::size_t blocks = (count + kCodecBlock - 1) / kCodecBlock;
    return {static_cast<int>(blocks < kMostBlocks ? blocks : kMostBlocks), kBlockThreads,
            kBlockThreads * sizeof(float)};
}

}  // namespace

std::vector<KernelFacts> codecs_facts() {
    const std::size_t shared = shape_for_blocks(1).shared_bytes;
    return {facts_of("encode_halves", encode_halves_kernel, kThreads),
            facts_of("decode_halves", decode_halves_kernel, kThreads),
            facts_of("encode_int8", encode_integers_kernel<8>, kBlockThreads, shared),
            facts_of("encode_int4", encode_integers_kernel<4>, kBlockThreads, shared),
            facts_of("decode_int8", decode_integers_kernel<8>, kThreads),
            facts_of("decode_int4", decode_integers_kernel<4>, kThreads)};
}

void encode(CodecKind kind, const float* x, std::size_t count, Rounding rounding,
            std::uint8_t* bytes, cudaStream_t stream) {
    if (kind == CodecKind::kHalf) {
        launch("encode_halves", encode_halves_kernel, shape_for(count), stream, x, count, bytes);
    } else if (kind == CodecKind::kInt8) {
        launch("encode_int8", encode_integers_kernel<8>, shape_for_blocks(count), stream, x, count,
               rounding, bytes);
    } else {
        launch("encode_int4", encode_integers_kernel<4>, shape_for_blocks(count), stream, x, count,
               rounding, bytes);
    }
}

void decode(CodecKind kind, const std::uint8_t* bytes, std::size_t count, float* x,
            cudaStream_t stream) {
    if (kind == CodecKind::kHalf) {
        launch("decode_halves", decode_halves_kernel, shape_for(count), stream, bytes, count, x);
    } else if (kind == CodecKind::kInt8) {
        launch("decode_int8", decode_integers_kernel<8>, shape_for(count), stream, bytes, count, x);
    } else {
        launch("decode_int4", decode_integers_kernel<4>, shape_for(count), stream, bytes, count, x);
    }
}

}  // namespace derl::cuda
