// Every operation on sixteen lanes, as bits in and bits out, so that a test can hold it against the
// scalar definition.
#pragma once

#include <cstdint>

#include "cpu/dispatch.hpp"

#define DERL_LANE_OPERATIONS(X)                                                                  \
    X(add) X(subtract) X(multiply) X(divide) X(negate) X(fma) X(fnma) X(sqrt) X(abs) X(min) X(max) \
    X(less) X(less_equal) X(greater) X(greater_equal) X(equal) X(select) X(mask_and) X(mask_or)    \
    X(mask_not) X(lane_bits) X(any) X(to_int) X(to_float) X(bits) X(integer_add)                   \
    X(integer_negate) X(integer_and) X(integer_or) X(integer_xor) X(integer_equal)                 \
    X(integer_less) X(integer_select) X(shift_left) X(shift_right) X(multiply_low)                 \
    X(multiply_high) X(broadcast) X(integer_broadcast) X(lane_numbers) X(sum_lanes)                \
    X(load_first) X(store_first)

namespace derl {

enum class LaneOperation {
#define DERL_NAME_OF(name) k_##name,
    DERL_LANE_OPERATIONS(DERL_NAME_OF)
#undef DERL_NAME_OF
};

// Comparisons give 0 or -1 in each lane. Shifts use the static amounts 1, 7, 23 and 31, by lane
// number modulo 4; load_first and store_first take their count from c[0] modulo 17.
DERL_DECLARE_AT_LEVELS(void apply_lane_operation(LaneOperation operation, const std::int32_t* a,
                                                 const std::int32_t* b, const std::int32_t* c,
                                                 std::int32_t* out);)

}  // namespace derl
