#include "cpu/codecs.hpp"

#include <derl/half.hpp>
#include <derl/philox.hpp>
#include <derl/quantise.hpp>

#include "cpu/simd/lanes.hpp"

namespace derl::DERL_LEVEL {

namespace {

constexpr int kGroup = 4 * kLanes;  // elements that one call of philox has numbers for

DERL_LANE int lanes_left(std::size_t position, std::size_t count) {
    return count - position < kLanes ? static_cast<int>(count - position) : kLanes;
}

DERL_LANE float largest_size(const float* x, std::size_t count) {
    F largest(0.0f);
    for (std::size_t i = 0; i < count; i += kLanes) {
        largest = max(abs(load_first(x + i, lanes_left(i, count))), largest);
    }
    alignas(64) float lanes[kLanes];
    largest.store(lanes);
    float result = 0.0f;
    for (int lane = 0; lane < kLanes; ++lane) {
        result = lanes[lane] > result ? lanes[lane] : result;
    }
    return result;
}

// uniform numbers for elements first ... first + 63; `first` is a multiple of 4
DERL_LANE void fill_uniform(std::uint64_t seed, std::size_t first, float* numbers) {
    const I index = add_wrapping(lane_numbers(), I(static_cast<std::int32_t>(first / 4)));
    const Random4<I> bits = random_bits(seed, Purpose::kRounding, index, 0);
    alignas(64) float words[4][kLanes];
    uniform<F>(bits.a).store(words[0]);
    uniform<F>(bits.b).store(words[1]);
    uniform<F>(bits.c).store(words[2]);
    uniform<F>(bits.d).store(words[3]);
    for (int lane = 0; lane < kLanes; ++lane) {
        for (int word = 0; word < 4; ++word) {
            numbers[4 * lane + word] = words[word][lane];
        }
    }
}

}  // namespace

std::size_t first_unfit(const float* x, std::size_t count) {
    for (std::size_t i = 0; i < count; i += kLanes) {
        const F size = abs(load_first(x + i, lanes_left(i, count)));
        const std::uint32_t unfit = lane_bits(~(size <= F(kLargestElement)));
        if (unfit != 0) {
            return i + static_cast<std::size_t>(__builtin_ctz(unfit));
        }
    }
    return count;
}

float quantise_block(const float* x, std::size_t first, std::size_t count, float largest_code,
                     Rounding rounding, std::int8_t* codes) {
    const float scale = scale_of(largest_size(x, count), largest_code);
    alignas(64) float numbers[kGroup];
    alignas(64) std::int32_t rounded[kLanes];
    for (std::size_t i = 0; i < count; i += kLanes) {
        if (rounding.is_stochastic && i % kGroup == 0) {
            fill_uniform(rounding.seed, first + i, numbers);
        }
        const int left = lanes_left(i, count);
        const F units = in_units(load_first(x + i, left), F(scale), F(largest_code));
        const I code = rounding.is_stochastic
                           ? rounded_stochastically(units, F::load(numbers + i % kGroup))
                           : rounded_to_nearest(units);
        code.store(rounded);
        for (int lane = 0; lane < left; ++lane) {
            codes[i + static_cast<std::size_t>(lane)] = static_cast<std::int8_t>(rounded[lane]);
        }
    }
    return scale;
}

void dequantise_block(const std::int8_t* codes, float scale, std::size_t count, float* x) {
    for (std::size_t i = 0; i < count; ++i) {
        x[i] = static_cast<float>(codes[i]) * scale;
    }
}

void floats_to_halves(const float* x, std::size_t count, std::uint16_t* halves) {
    alignas(64) std::int32_t bits[kLanes];
    for (std::size_t i = 0; i < count; i += kLanes) {
        const int left = lanes_left(i, count);
        half_of_float(load_first(x + i, left)).store(bits);
        for (int lane = 0; lane < left; ++lane) {
            halves[i + static_cast<std::size_t>(lane)] = static_cast<std::uint16_t>(bits[lane]);
        }
    }
}

void halves_to_floats(const std::uint16_t* halves, std::size_t count, float* x) {
    alignas(64) std::int32_t bits[kLanes] = {};
    for (std::size_t i = 0; i < count; i += kLanes) {
        const int left = lanes_left(i, count);
        for (int lane = 0; lane < left; ++lane) {
            bits[lane] = halves[i + static_cast<std::size_t>(lane)];
        }
        store_first(x + i, float_of_half<F>(I::load(bits)), left);
    }
}

}  // namespace derl::DERL_LEVEL
