// Each operation on lanes, at each level, against the IEEE operation on one float.
#include <cmath>
#include <cstdint>
#include <cstring>

#include "check.hpp"
#include "lane_operations.hpp"

namespace derl::tests {

namespace {

constexpr int kLanes = 16;
constexpr std::int32_t kNone = -2147483647 - 1;

float real(std::int32_t bits) {
    float x;
    std::memcpy(&x, &bits, sizeof x);
    return x;
}
std::int32_t raw(float x) {
    std::int32_t bits;
    std::memcpy(&bits, &x, sizeof bits);
    return bits;
}
std::uint32_t natural(std::int32_t x) { return static_cast<std::uint32_t>(x); }
std::int32_t whole(std::uint32_t x) { return static_cast<std::int32_t>(x); }

std::uint64_t state = 0x9E3779B97F4A7C15u;
std::uint32_t random32() {  // splitmix64
    std::uint64_t z = (state += 0x9E3779B97F4A7C15u);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return static_cast<std::uint32_t>((z ^ (z >> 31)) >> 32);
}

// zeros, subnormals, the ends of the range, ties, infinities, NaNs, quiet or not
constexpr std::uint32_t kSpecial[] = {
    0x00000000u, 0x80000000u, 0x00000001u, 0x80000001u, 0x007fffffu, 0x00800000u, 0x80800000u,
    0x3f800000u, 0xbf800000u, 0x3f800001u, 0x3f7fffffu, 0x7f7fffffu, 0xff7fffffu, 0x7f800000u,
    0xff800000u, 0x7fc00000u, 0xffc12345u, 0x7f800001u, 0x3f000000u, 0x4b000001u, 0x4b7fffffu,
    0x33800000u, 0x34000000u, 0x4effffffu, 0xcf000000u, 0x40200000u, 0x40600000u, 0xc0200000u};

std::int32_t operand() {
    const std::uint32_t kind = random32() % 8;
    if (kind < 2) {
        return whole(kSpecial[random32() % (sizeof kSpecial / sizeof *kSpecial)]);
    }
    if (kind < 5) {  // near one, few bits: sums and products that tie or cancel
        const std::uint32_t few = random32() % 2 ? 0xfffff000u : 0xffffffffu;
        const std::uint32_t sign = random32() & 0x80000000u;
        return whole(sign | ((0x3d000000u + random32() % 0x05000000u) & few));
    }
    return whole(random32());
}

std::int32_t nearest(float x) {  // as cvtps2dq: out of range is the least integer
    const float rounded = std::nearbyint(x);
    return rounded >= -2147483648.0f && rounded < 2147483648.0f ? static_cast<std::int32_t>(rounded)
                                                                : kNone;
}

float halves_added(const std::int32_t* lanes) {
    float x[kLanes];
    std::memcpy(x, lanes, sizeof x);
    for (int left = kLanes / 2; left > 0; left /= 2) {
        for (int i = 0; i < left; ++i) {
            x[i] = x[i] + x[i + left];
        }
    }
    return x[0];
}

struct Lanes {
    std::int32_t a[kLanes], b[kLanes], c[kLanes];
};

// What lane i must hold.
std::int32_t expected(LaneOperation operation, const Lanes& in, int i) {
    using enum LaneOperation;
    const std::int32_t m = in.a[i], n = in.b[i], o = in.c[i];
    const float x = real(m), y = real(n), z = real(o);
    constexpr int kShifts[] = {1, 7, 23, 31};
    const int count = static_cast<int>(natural(in.c[0]) % (kLanes + 1));
    std::uint32_t less = 0;
    for (int lane = 0; lane < kLanes; ++lane) {
        less |= static_cast<std::uint32_t>(real(in.a[lane]) < real(in.b[lane])) << lane;
    }
    const std::uint64_t product = static_cast<std::uint64_t>(natural(m)) * natural(in.c[0]);
    switch (operation) {
        case k_add: return raw(x + y);
        case k_subtract: return raw(x - y);
        case k_multiply: return raw(x * y);
        case k_divide: return raw(x / y);
        case k_negate: return whole(natural(m) ^ 0x80000000u);
        case k_fma: return raw(std::fma(x, y, z));
        case k_fnma: return raw(std::fma(-x, y, z));
        case k_sqrt: return raw(std::sqrt(x));
        case k_abs: return whole(natural(m) & 0x7fffffffu);
        case k_min: return x < y ? m : n;
        case k_max: return x > y ? m : n;
        case k_less: return -(x < y);
        case k_less_equal: return -(x <= y);
        case k_greater: return -(x > y);
        case k_greater_equal: return -(x >= y);
        case k_equal: return -(x == y);
        case k_select: return x < y ? o : m;
        case k_mask_and: return -(x < y && y < z);
        case k_mask_or: return -(x < y || y < z);
        case k_mask_not: return -!(x < y);
        case k_lane_bits: return whole(less);
        case k_any: return less != 0;
        case k_to_int: return nearest(x);
        case k_to_float: return raw(static_cast<float>(m));
        case k_bits: return m;
        case k_integer_add: return whole(natural(m) + natural(n));
        case k_integer_negate: return whole(0u - natural(m));
        case k_integer_and: return m & n;
        case k_integer_or: return m | n;
        case k_integer_xor: return m ^ n;
        case k_integer_equal: return -(m == n);
        case k_integer_less: return -(m < n);
        case k_integer_select: return m < n ? o : m;
        case k_shift_left: return whole(natural(m) << kShifts[i % 4]);
        case k_shift_right: return whole(natural(m) >> kShifts[i % 4]);
        case k_multiply_low: return whole(static_cast<std::uint32_t>(product));
        case k_multiply_high: return whole(static_cast<std::uint32_t>(product >> 32));
        case k_broadcast:
        case k_integer_broadcast: return in.c[0];
        case k_lane_numbers: return i;
        case k_sum_lanes: return raw(halves_added(in.a));
        case k_load_first: return i < count ? m : 0;
        case k_store_first: return i < count ? n : m;
    }
    return kNone;
}

// Which NaN an operation gives is not promised; that it gives one is.
bool gives_any_nan(LaneOperation operation) {
    using enum LaneOperation;
    return operation <= k_divide || operation == k_fma || operation == k_fnma ||
           operation == k_sqrt || operation == k_sum_lanes;
}

void run(LaneOperation operation, const char* name, Level level) {
    for (int round = 0; round < 20000; ++round) {
        Lanes in;
        for (int i = 0; i < kLanes; ++i) {
            in.a[i] = operand();
            in.b[i] = random32() % 8 ? operand() : in.a[i];
            in.c[i] = operand();
            if (operation == LaneOperation::k_fma && random32() % 2) {  // what cancels the product
                in.c[i] = raw(-real(in.a[i]) * real(in.b[i]));
            }
        }
        std::int32_t out[kLanes];
        DERL_AT_LEVEL(apply_lane_operation)(operation, in.a, in.b, in.c, out);
        for (int i = 0; i < kLanes; ++i) {
            const std::int32_t wanted = expected(operation, in, i);
            const bool both_nan = gives_any_nan(operation) && std::isnan(real(wanted)) &&
                                  std::isnan(real(out[i]));
            DERL_CHECK(out[i] == wanted || both_nan,
                       "%s %s lane %d: a %08x b %08x c %08x gives %08x, must give %08x",
                       name_of(level), name, i, natural(in.a[i]), natural(in.b[i]),
                       natural(in.c[i]), natural(out[i]), natural(wanted));
        }
    }
}

}  // namespace

void test_lanes() {
    at_each_level([](Level level) {
#define DERL_RUN(name) run(LaneOperation::k_##name, #name, level);
        DERL_LANE_OPERATIONS(DERL_RUN)
#undef DERL_RUN
    });
}

}  // namespace derl::tests

int main() {
    derl::tests::test_lanes();
    return derl::tests::report("lanes");
}
