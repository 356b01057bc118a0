#include "cpu/philox.hpp"

#include <derl/philox.hpp>

#include "cpu/simd/lanes.hpp"

namespace derl::DERL_LEVEL {

namespace {

DERL_LANE I load_words(const std::int32_t* p, int count) {
    alignas(64) std::int32_t lanes[kLanes] = {};
    for (int i = 0; i < count; ++i) {
        lanes[i] = p[i];
    }
    return I::load(lanes);
}
DERL_LANE void store_words(std::int32_t* p, I x, int count) {
    alignas(64) std::int32_t lanes[kLanes];
    x.store(lanes);
    for (int i = 0; i < count; ++i) {
        p[i] = lanes[i];
    }
}
DERL_LANE int lanes_left(std::size_t i, std::size_t count) {
    return count - i < kLanes ? static_cast<int>(count - i) : kLanes;
}

}  // namespace

void philox_words(const std::int32_t* counters, std::size_t count, std::uint64_t seed,
                  std::int32_t* words) {
    for (std::size_t i = 0; i < count; i += kLanes) {
        const int left = lanes_left(i, count);
        const Random4<I> counter{load_words(counters + i, left),
                                 load_words(counters + count + i, left),
                                 load_words(counters + 2 * count + i, left),
                                 load_words(counters + 3 * count + i, left)};
        const Random4<I> drawn = philox(counter, static_cast<std::uint32_t>(seed),
                                        static_cast<std::uint32_t>(seed >> 32));
        store_words(words + i, drawn.a, left);
        store_words(words + count + i, drawn.b, left);
        store_words(words + 2 * count + i, drawn.c, left);
        store_words(words + 3 * count + i, drawn.d, left);
    }
}

void uniforms_of_words(const std::int32_t* words, std::size_t count, float* numbers) {
    for (std::size_t i = 0; i < 4 * count; i += kLanes) {
        const int left = lanes_left(i, 4 * count);
        store_first(numbers + i, uniform<F>(load_words(words + i, left)), left);
    }
}

void normals_of_words(const std::int32_t* words, std::size_t count, float* numbers) {
    for (std::size_t pair = 0; pair < 2; ++pair) {
        const std::int32_t* first = words + 2 * pair * count;
        float* out = numbers + 2 * pair * count;
        for (std::size_t i = 0; i < count; i += kLanes) {
            const int left = lanes_left(i, count);
            F x, y;
            normal_pair<F>(load_words(first + i, left), load_words(first + count + i, left), x, y);
            store_first(out + i, x, left);
            store_first(out + count + i, y, left);
        }
    }
}

}  // namespace derl::DERL_LEVEL
