// Philox4x32-10: random numbers as a function of a counter (Salmon et al., SC 2011).
//
// The same numbers whoever computes them, in any order: a stream is named by its key, a number by
// its counter, and nothing has to be remembered. One lane or sixteen.
#pragma once

#include <derl/elementary.hpp>

namespace derl {

// What a random number is for: the last word of its counter, so that no two uses share a stream.
// The counter is {index, low 32 bits of the step, its high 32 bits, purpose} and the key the
// 64-bit seed {low, high}; index and step are named beside each purpose.
enum class Purpose : std::int32_t {
    kReset = 1,      // start of an episode: environment, number of the episode
    kAction = 2,     // sampling of actions: environment, step since the start of training
    kMinibatch = 3,  // order of samples: sample / 4, epoch
    kRounding = 4,   // stochastic rounding in codecs: element / 4, step 0
    kWeights = 5,    // weights to start from: entry / 4, number of the tensor
};

template <class Integer>
struct Random4 {
    Integer a, b, c, d;  // 32 random bits each
};

template <class Integer>
DERL_HOST_DEVICE Random4<Integer> philox(Random4<Integer> counter, std::uint32_t key_low,
                                         std::uint32_t key_high) {
    for (int round = 0; round < 10; ++round) {
        Integer low0, high0, low1, high1;
        multiply_wide(counter.a, 0xD2511F53u, low0, high0);
        multiply_wide(counter.c, 0xCD9E8D57u, low1, high1);
        counter = {high1 ^ counter.b ^ Integer(static_cast<std::int32_t>(key_low)), low1,
                   high0 ^ counter.d ^ Integer(static_cast<std::int32_t>(key_high)), low0};
        key_low += 0x9E3779B9u;
        key_high += 0xBB67AE85u;
    }
    return counter;
}

template <class Integer>
DERL_HOST_DEVICE Integer low_word(std::uint64_t x) {
    return Integer(static_cast<std::int32_t>(static_cast<std::uint32_t>(x)));
}

// The number with this index and step in the stream that a seed and a purpose name.
template <class Integer>
DERL_HOST_DEVICE Random4<Integer> random_bits(std::uint64_t seed, Purpose purpose, Integer index,
                                              std::uint64_t step) {
    return philox<Integer>({index, low_word<Integer>(step), low_word<Integer>(step >> 32),
                            Integer(static_cast<std::int32_t>(purpose))},
                           static_cast<std::uint32_t>(seed),
                           static_cast<std::uint32_t>(seed >> 32));
}

// The same where each lane has a step of its own, below 2^32.
template <class Integer>
DERL_HOST_DEVICE Random4<Integer> random_bits_of_lanes(std::uint64_t seed, Purpose purpose,
                                                       Integer index, Integer step) {
    return philox<Integer>({index, step, Integer(0),
                            Integer(static_cast<std::int32_t>(purpose))},
                           static_cast<std::uint32_t>(seed),
                           static_cast<std::uint32_t>(seed >> 32));
}

// In [0, 1), a multiple of 2^-24.
template <class V>
DERL_HOST_DEVICE V uniform(typename IntegerOf<V>::type bits) {
    return to_float(shift_right<8>(bits)) * V(5.9604644775390625e-8f);
}

// In (0, 1), an odd multiple of 2^-24: the logarithm exists and is not 0.
template <class V>
DERL_HOST_DEVICE V uniform_open(typename IntegerOf<V>::type bits) {
    return fma(to_float(shift_right<9>(bits)), V(1.1920928955078125e-7f), V(5.9604644775390625e-8f));
}

// Two independent standard normal numbers (Box and Muller 1958).
template <class V>
DERL_HOST_DEVICE void normal_pair(typename IntegerOf<V>::type first,
                                  typename IntegerOf<V>::type second, V& x, V& y) {
    const V radius = sqrt(log(uniform_open<V>(first)) * V(-2.0f));
    V sine, cosine;
    sine_cosine(uniform<V>(second) * V(6.28318530717958648f), sine, cosine);
    x = radius * cosine;
    y = radius * sine;
}

}  // namespace derl
