#include "lane_operations.hpp"

#include "cpu/simd/lanes.hpp"

namespace derl::DERL_LEVEL {

namespace {

DERL_LANE F floats(const std::int32_t* p) { return float_of_bits(I::load(p)); }
DERL_LANE void put(F x, std::int32_t* out) { bits_of(x).store(out); }
DERL_LANE void put(I x, std::int32_t* out) { x.store(out); }
DERL_LANE void put(M m, std::int32_t* out) { select(m, I(-1), I(0)).store(out); }

DERL_LANE I by_lane(I one, I seven, I most, I all) {
    const I number = lane_numbers() & I(3);
    return select(number == I(0), one,
                  select(number == I(1), seven, select(number == I(2), most, all)));
}

void apply_to_floats(LaneOperation operation, F a, F b, F c, std::int32_t* out) {
    using enum LaneOperation;
    switch (operation) {
        case k_add: return put(a + b, out);
        case k_subtract: return put(a - b, out);
        case k_multiply: return put(a * b, out);
        case k_divide: return put(a / b, out);
        case k_negate: return put(-a, out);
        case k_fma: return put(fma(a, b, c), out);
        case k_fnma: return put(fnma(a, b, c), out);
        case k_sqrt: return put(sqrt(a), out);
        case k_abs: return put(abs(a), out);
        case k_min: return put(min(a, b), out);
        case k_max: return put(max(a, b), out);
        case k_less: return put(a < b, out);
        case k_less_equal: return put(a <= b, out);
        case k_greater: return put(a > b, out);
        case k_greater_equal: return put(a >= b, out);
        case k_equal: return put(a == b, out);
        case k_select: return put(select(a < b, c, a), out);
        case k_mask_and: return put((a < b) & (b < c), out);
        case k_mask_or: return put((a < b) | (b < c), out);
        case k_mask_not: return put(~(a < b), out);
        case k_lane_bits: return put(I(static_cast<std::int32_t>(lane_bits(a < b))), out);
        case k_any: return put(I(any(a < b) ? 1 : 0), out);
        case k_to_int: return put(to_int(a), out);
        case k_sum_lanes: return put(F(sum_lanes(a)), out);
        default: return;
    }
}

void apply_to_integers(LaneOperation operation, I a, I b, I c, std::int32_t* out) {
    using enum LaneOperation;
    alignas(64) std::int32_t factor[kLanes];
    c.store(factor);
    I low, high;
    multiply_wide(a, static_cast<std::uint32_t>(factor[0]), low, high);
    switch (operation) {
        case k_to_float: return put(to_float(a), out);
        case k_bits: return put(bits_of(float_of_bits(a)), out);
        case k_integer_add: return put(add_wrapping(a, b), out);
        case k_integer_negate: return put(-a, out);
        case k_integer_and: return put(a & b, out);
        case k_integer_or: return put(a | b, out);
        case k_integer_xor: return put(a ^ b, out);
        case k_integer_equal: return put(a == b, out);
        case k_integer_less: return put(a < b, out);
        case k_integer_select: return put(select(a < b, c, a), out);
        case k_shift_left:
            return put(by_lane(shift_left<1>(a), shift_left<7>(a), shift_left<23>(a),
                               shift_left<31>(a)), out);
        case k_shift_right:
            return put(by_lane(shift_right<1>(a), shift_right<7>(a), shift_right<23>(a),
                               shift_right<31>(a)), out);
        case k_multiply_low: return put(low, out);
        case k_multiply_high: return put(high, out);
        case k_broadcast: return put(F(derl::float_of_bits(factor[0])), out);
        case k_integer_broadcast: return put(I(factor[0]), out);
        case k_lane_numbers: return put(lane_numbers(), out);
        default: return;
    }
}

}  // namespace

void apply_lane_operation(LaneOperation operation, const std::int32_t* a, const std::int32_t* b,
                          const std::int32_t* c, std::int32_t* out) {
    const int count = static_cast<int>(static_cast<std::uint32_t>(c[0]) % (kLanes + 1));
    // int32_t and float may not alias, so the bits are copied
    float memory[kLanes];
    __builtin_memcpy(memory, a, sizeof memory);
    if (operation == LaneOperation::k_load_first) {
        return put(load_first(memory, count), out);
    }
    if (operation == LaneOperation::k_store_first) {
        store_first(memory, floats(b), count);
        __builtin_memcpy(out, memory, sizeof memory);
        return;
    }
    apply_to_floats(operation, floats(a), floats(b), floats(c), out);
    apply_to_integers(operation, I::load(a), I::load(b), I::load(c), out);
}

}  // namespace derl::DERL_LEVEL
