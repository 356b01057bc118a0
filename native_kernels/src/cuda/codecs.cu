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

constexpr int kGroup = 8;      // elements of a thread: a byte of each plane of bits
constexpr int kWords = 4;      // elements that one call of philox has numbers for
constexpr int kSmallBits = 3;  // of the size of a code of four bits
constexpr int kBlockThreads = kCodecBlock / kGroup;
constexpr std::int32_t kNan = 0x7fc00000;

DERL_DEVICE bool is_fit(float x) { return abs(x) <= kLargestElement; }

DERL_HOST_DEVICE std::size_t plane_of_bits(std::size_t count) {
    return (count + kGroup - 1) / kGroup;
}

DERL_DEVICE int bit_at(const std::uint8_t* plane, std::size_t i) {
    return plane[i / kGroup] >> (i % kGroup) & 1;
}

// Signs, lower bytes, the seven bits above; a thread for each group.
DERL_KERNEL encode_halves_kernel(const float* x, std::size_t count, std::uint8_t* bytes) {
    const std::size_t groups = plane_of_bits(count);
    std::uint8_t* lower = bytes + groups;
    for (std::size_t group = first_of_thread(); group < groups; group += grid_stride()) {
        unsigned signs = 0;
        for (int k = 0; k < kGroup; ++k) {
            const std::size_t i = group * kGroup + k;
            if (i < count) {
                const std::int32_t half = half_of_float(is_fit(x[i]) ? x[i] : float_of_bits(kNan));
                lower[i] = static_cast<std::uint8_t>(half);
                lower[count + i] = static_cast<std::uint8_t>(half >> 8 & 0x7f);
                signs |= (static_cast<unsigned>(half) >> 15 & 1u) << k;
            }
        }
        bytes[group] = static_cast<std::uint8_t>(signs);
    }
}

DERL_KERNEL decode_halves_kernel(const std::uint8_t* bytes, std::size_t count, float* x) {
    const std::uint8_t* lower = bytes + plane_of_bits(count);
    const std::uint8_t* upper = lower + count;
    for (std::size_t i = first_of_thread(); i < count; i += grid_stride()) {
        const std::int32_t half = lower[i] | upper[i] << 8 | bit_at(bytes, i) << 15;
        x[i] = upper[i] < 0x7c ? float_of_half<float>(half) : float_of_bits(kNan);
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

DERL_DEVICE void random_group(std::uint64_t seed, std::size_t first, float* numbers) {
    for (int k = 0; k < kGroup; k += kWords) {
        const auto random = random_bits(seed, Purpose::kRounding,
                                        static_cast<std::int32_t>((first + k) / kWords), 0);
        numbers[k] = uniform<float>(random.a);
        numbers[k + 1] = uniform<float>(random.b);
        numbers[k + 2] = uniform<float>(random.c);
        numbers[k + 3] = uniform<float>(random.d);
    }
}

// Signs, then sizes: a byte each, or three planes of bits. Codes beyond `count` are 0.
template <int kBits>
DERL_DEVICE void put_codes(const std::int32_t* codes, std::size_t first, std::size_t count,
                           std::uint8_t* planes) {
    const std::size_t width = plane_of_bits(count);
    unsigned signs = 0, bits[kSmallBits] = {};
    for (int k = 0; k < kGroup; ++k) {
        const unsigned size = static_cast<unsigned>(codes[k] < 0 ? -codes[k] : codes[k]);
        signs |= (codes[k] < 0 ? 1u : 0u) << k;
        if constexpr (kBits == 8) {
            if (first + k < count) {
                planes[width + first + k] = static_cast<std::uint8_t>(size);
            }
        } else {
            for (int bit = 0; bit < kSmallBits; ++bit) {
                bits[bit] |= (size >> bit & 1u) << k;
            }
        }
    }
    planes[first / kGroup] = static_cast<std::uint8_t>(signs);
    for (int bit = 0; kBits != 8 && bit < kSmallBits; ++bit) {
        planes[(1 + bit) * width + first / kGroup] = static_cast<std::uint8_t>(bits[bit]);
    }
}

// A block of threads for each block of elements, each thread with a group of them.
template <int kBits>
DERL_KERNEL encode_integers_kernel(const float* x, std::size_t count, Rounding rounding,
                                   std::uint8_t* bytes) {
    DERL_SHARED(float, of_threads);
    constexpr float kLimit = kBits == 8 ? 127.0f : 7.0f;
    const std::size_t scales = (count + kCodecBlock - 1) / kCodecBlock;
    for (std::size_t block = blockIdx.x; block < scales; block += gridDim.x) {
        const std::size_t first = block * kCodecBlock + threadIdx.x * kGroup;
        float elements[kGroup], numbers[kGroup];
        float largest = 0.0f;
        for (int k = 0; k < kGroup; ++k) {
            elements[k] = first + k < count ? x[first + k] : 0.0f;
            const float size = abs(elements[k]);
            largest = max(is_fit(size) ? size : __builtin_inff(), largest);
        }
        largest = largest_of_block(largest, of_threads);
        const bool fits = is_fit(largest);
        const float scale = fits ? scale_of(largest, kLimit) : float_of_bits(kNan);
        if (threadIdx.x == 0) {
            put_scale(scale, block, scales, bytes);
        }
        if (first >= count) {
            continue;  // to the barriers of the next round
        }
        random_group(rounding.seed, first, numbers);
        std::int32_t codes[kGroup];
        for (int k = 0; k < kGroup; ++k) {
            const float units = fits ? in_units(elements[k], scale, kLimit) : 0.0f;
            codes[k] = rounding.is_stochastic ? rounded_stochastically(units, numbers[k])
                                              : rounded_to_nearest(units);
        }
        put_codes<kBits>(codes, first, count, bytes + 2 * scales);
    }
}

template <int kBits>
DERL_KERNEL decode_integers_kernel(const std::uint8_t* bytes, std::size_t count, float* x) {
    const std::size_t scales = (count + kCodecBlock - 1) / kCodecBlock;
    const std::size_t width = plane_of_bits(count);
    const std::uint8_t* signs = bytes + 2 * scales;
    const std::uint8_t* sizes = signs + width;
    for (std::size_t i = first_of_thread(); i < count; i += grid_stride()) {
        const std::size_t block = i / kCodecBlock;
        const std::uint32_t upper = static_cast<std::uint32_t>(bytes[scales + block]) << 24;
        const float scale = float_of_bits(
            static_cast<std::int32_t>(upper | static_cast<std::uint32_t>(bytes[block]) << 16));
        int size = 0;
        if constexpr (kBits == 8) {
            size = sizes[i];
        } else {
            for (int bit = 0; bit < kSmallBits; ++bit) {
                size |= bit_at(sizes + bit * width, i) << bit;
            }
        }
        const int sign = bit_at(signs, i);
        const bool is_sound = bits_of(scale) >= 0 && scale <= kLargestElement && size < 0x80 &&
                              sign <= size;  // 0 has no sign
        const float code = static_cast<float>(sign != 0 ? -size : size);
        x[i] = is_sound ? code * scale : float_of_bits(kNan);
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
        launch("encode_halves", encode_halves_kernel, shape_for(plane_of_bits(count)),
               stream, x, count, bytes);
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
