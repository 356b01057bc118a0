// Twice as many lanes: everything that a half can do, done to both. Included by lanes.hpp inside
// the namespace of a level, so that each level has copies of its own.

template <class Half>
struct PairMask {
    static constexpr int kLanes = 2 * Half::kLanes;
    Half low, high;
    friend DERL_LANE PairMask operator&(PairMask a, PairMask b) {
        return {a.low & b.low, a.high & b.high};
    }
    friend DERL_LANE PairMask operator|(PairMask a, PairMask b) {
        return {a.low | b.low, a.high | b.high};
    }
    friend DERL_LANE PairMask operator~(PairMask a) { return {~a.low, ~a.high}; }
    friend DERL_LANE bool any(PairMask m) { return any(m.low | m.high); }
    friend DERL_LANE std::uint32_t lane_bits(PairMask m) {
        return lane_bits(m.low) | lane_bits(m.high) << Half::kLanes;
    }
};

template <class Half>
struct PairFloat;

template <class Half, class HalfMask>
struct PairInteger {
    using Float = PairFloat<typename Half::Float>;
    static constexpr int kLanes = 2 * Half::kLanes;
    using Mask = PairMask<HalfMask>;
    Half low, high;
    PairInteger() = default;
    DERL_LANE PairInteger(Half l, Half h) : low(l), high(h) {}
    DERL_LANE PairInteger(std::int32_t x) : low(x), high(x) {}
    static DERL_LANE PairInteger load(const std::int32_t* p) {
        return {Half::load(p), Half::load(p + Half::kLanes)};
    }
    DERL_LANE void store(std::int32_t* p) const {
        low.store(p);
        high.store(p + Half::kLanes);
    }
    friend DERL_LANE PairInteger operator-(PairInteger a) { return {-a.low, -a.high}; }
    friend DERL_LANE PairInteger operator&(PairInteger a, PairInteger b) {
        return {a.low & b.low, a.high & b.high};
    }
    friend DERL_LANE PairInteger operator|(PairInteger a, PairInteger b) {
        return {a.low | b.low, a.high | b.high};
    }
    friend DERL_LANE PairInteger operator^(PairInteger a, PairInteger b) {
        return {a.low ^ b.low, a.high ^ b.high};
    }
    friend DERL_LANE Mask operator==(PairInteger a, PairInteger b) {
        return {a.low == b.low, a.high == b.high};
    }
    friend DERL_LANE Mask operator<(PairInteger a, PairInteger b) {
        return {a.low < b.low, a.high < b.high};
    }
    friend DERL_LANE PairInteger add_wrapping(PairInteger a, PairInteger b) {
        return {add_wrapping(a.low, b.low), add_wrapping(a.high, b.high)};
    }
    friend DERL_LANE PairInteger select(Mask m, PairInteger yes, PairInteger no) {
        return {select(m.low, yes.low, no.low), select(m.high, yes.high, no.high)};
    }
    friend DERL_LANE void multiply_wide(PairInteger a, std::uint32_t b, PairInteger& low,
                                        PairInteger& high) {
        multiply_wide(a.low, b, low.low, high.low);
        multiply_wide(a.high, b, low.high, high.high);
    }
};
template <int kBits, class Half, class HalfMask>
DERL_LANE PairInteger<Half, HalfMask> shift_left(PairInteger<Half, HalfMask> x) {
    return {shift_left<kBits>(x.low), shift_left<kBits>(x.high)};
}
template <int kBits, class Half, class HalfMask>
DERL_LANE PairInteger<Half, HalfMask> shift_right(PairInteger<Half, HalfMask> x) {
    return {shift_right<kBits>(x.low), shift_right<kBits>(x.high)};
}

template <class Half>
struct PairFloat {
    static constexpr int kLanes = 2 * Half::kLanes;
    using Integer = PairInteger<typename Half::Integer, typename Half::Mask>;
    using Mask = PairMask<typename Half::Mask>;
    Half low, high;
    PairFloat() = default;
    DERL_LANE PairFloat(Half l, Half h) : low(l), high(h) {}
    DERL_LANE PairFloat(float x) : low(x), high(x) {}
    static DERL_LANE PairFloat load(const float* p) {
        return {Half::load(p), Half::load(p + Half::kLanes)};
    }
    DERL_LANE void store(float* p) const {
        low.store(p);
        high.store(p + Half::kLanes);
    }
    friend DERL_LANE PairFloat operator+(PairFloat a, PairFloat b) {
        return {a.low + b.low, a.high + b.high};
    }
    friend DERL_LANE PairFloat operator-(PairFloat a, PairFloat b) {
        return {a.low - b.low, a.high - b.high};
    }
    friend DERL_LANE PairFloat operator*(PairFloat a, PairFloat b) {
        return {a.low * b.low, a.high * b.high};
    }
    friend DERL_LANE PairFloat operator/(PairFloat a, PairFloat b) {
        return {a.low / b.low, a.high / b.high};
    }
    friend DERL_LANE PairFloat operator-(PairFloat a) { return {-a.low, -a.high}; }
    friend DERL_LANE Mask operator<(PairFloat a, PairFloat b) {
        return {a.low < b.low, a.high < b.high};
    }
    friend DERL_LANE Mask operator>(PairFloat a, PairFloat b) { return b < a; }
    friend DERL_LANE Mask operator<=(PairFloat a, PairFloat b) {
        return {a.low <= b.low, a.high <= b.high};
    }
    friend DERL_LANE Mask operator>=(PairFloat a, PairFloat b) { return b <= a; }
    friend DERL_LANE Mask operator==(PairFloat a, PairFloat b) {
        return {a.low == b.low, a.high == b.high};
    }
    friend DERL_LANE PairFloat fma(PairFloat a, PairFloat b, PairFloat c) {
        return {fma(a.low, b.low, c.low), fma(a.high, b.high, c.high)};
    }
    friend DERL_LANE PairFloat fnma(PairFloat a, PairFloat b, PairFloat c) {
        return {fnma(a.low, b.low, c.low), fnma(a.high, b.high, c.high)};
    }
    friend DERL_LANE PairFloat sqrt(PairFloat x) { return {sqrt(x.low), sqrt(x.high)}; }
    friend DERL_LANE PairFloat abs(PairFloat x) { return {abs(x.low), abs(x.high)}; }
    friend DERL_LANE PairFloat min(PairFloat a, PairFloat b) {
        return {min(a.low, b.low), min(a.high, b.high)};
    }
    friend DERL_LANE PairFloat max(PairFloat a, PairFloat b) {
        return {max(a.low, b.low), max(a.high, b.high)};
    }
    friend DERL_LANE PairFloat select(Mask m, PairFloat yes, PairFloat no) {
        return {select(m.low, yes.low, no.low), select(m.high, yes.high, no.high)};
    }
    friend DERL_LANE Integer bits_of(PairFloat x) { return {bits_of(x.low), bits_of(x.high)}; }
    friend DERL_LANE Integer to_int(PairFloat x) { return {to_int(x.low), to_int(x.high)}; }
    friend DERL_LANE float sum_lanes(PairFloat x) { return sum_lanes(x.low + x.high); }
};

template <class Half, class HalfMask>
DERL_LANE PairFloat<typename Half::Float> float_of_bits(PairInteger<Half, HalfMask> x) {
    return {float_of_bits(x.low), float_of_bits(x.high)};
}
template <class Half, class HalfMask>
DERL_LANE PairFloat<typename Half::Float> to_float(PairInteger<Half, HalfMask> x) {
    return {to_float(x.low), to_float(x.high)};
}

// By quarters: each is transposed, and the two off the diagonal change places.
template <class Half>
DERL_LANE void transpose_square(PairFloat<Half>* rows) {
    constexpr int kHalf = Half::kLanes;
    Half quarters[2][2][kHalf];
#pragma GCC unroll 16
    for (int i = 0; i < 2 * kHalf; ++i) {
        quarters[i / kHalf][0][i % kHalf] = rows[i].low;
        quarters[i / kHalf][1][i % kHalf] = rows[i].high;
    }
    transpose_square(quarters[0][0]);
    transpose_square(quarters[0][1]);
    transpose_square(quarters[1][0]);
    transpose_square(quarters[1][1]);
#pragma GCC unroll 16
    for (int i = 0; i < 2 * kHalf; ++i) {
        rows[i] = {quarters[0][i / kHalf][i % kHalf], quarters[1][i / kHalf][i % kHalf]};
    }
}
