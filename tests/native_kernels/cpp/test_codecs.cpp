// Encoding and decoding at every level, and the decoders on damaged payloads.
#include <algorithm>
#include <cstring>
#include <random>
#include <vector>

#include "check.hpp"
#include "decode_anything.hpp"

namespace {

using derl::CodecKind;
using derl::codecs::Flaw;
using derl::codecs::Layout;
using Bytes = std::vector<std::uint8_t>;

constexpr int kMutations = 20'000;

std::vector<Layout> layouts(std::size_t count) {
    return {{CodecKind::kHalf, count, 0},
            {CodecKind::kInt8, count, 0},
            {CodecKind::kInt4, count, 0},
            {CodecKind::kTopK, count, count / 10}};
}

Bytes encoded(const Layout& layout) {
    std::vector<float> update(layout.count);
    std::mt19937 dice(static_cast<unsigned>(layout.count));
    std::normal_distribution<float> normal(0.0f, 0.01f);
    std::generate(update.begin(), update.end(), [&] { return normal(dice); });
    Bytes payload(derl::codecs::longest(layout));
    payload.resize(derl::codecs::encode(layout, update.data(), {true, 7}, payload.data()));
    return payload;
}

void check_levels() {
    for (const std::size_t count : {1, 255, 256, 257, 1000}) {
        for (const Layout& layout : layouts(count)) {
            const Bytes expected = encoded(layout);
            std::vector<float> first;
            derl::tests::at_each_level([&](derl::Level level) {
                DERL_CHECK(encoded(layout) == expected, "codec %d of %zu at %s",
                           static_cast<int>(layout.kind), count, name_of(level));
                std::vector<float> update(count);
                const Flaw flaw = derl::codecs::decode(layout, expected.data(), expected.size(),
                                                       update.data());
                DERL_CHECK(flaw == Flaw::kNone, "%s", derl::codecs::describe(flaw));
                first = first.empty() ? update : first;
                DERL_CHECK(std::memcmp(update.data(), first.data(), 4 * count) == 0,
                           "codec %d of %zu at %s", static_cast<int>(layout.kind), count,
                           name_of(level));
            });
        }
    }
}

void mutate(Bytes& data, std::mt19937& dice) {
    const std::size_t at = dice() % data.size();
    const std::size_t width = std::min<std::size_t>(1 + dice() % 8, data.size() - at);
    const auto begin = data.begin() + static_cast<std::ptrdiff_t>(at);
    switch (dice() % 4) {
        case 0: *begin ^= static_cast<std::uint8_t>(1u << dice() % 8); break;
        case 1: std::fill_n(begin, width, static_cast<std::uint8_t>(dice() % 2 ? 0xff : 0)); break;
        case 2: data.erase(begin, begin + static_cast<std::ptrdiff_t>(width)); break;
        default: data.insert(begin, width, static_cast<std::uint8_t>(dice())); break;
    }
}

void check_decoders() {
    std::mt19937 dice(1);
    for (const std::size_t count : {10, 300}) {
        for (const Layout& layout : layouts(count)) {
            const Bytes payload = encoded(layout);
            Bytes original = {static_cast<std::uint8_t>(static_cast<int>(layout.kind) - 1),
                              static_cast<std::uint8_t>(count),
                              static_cast<std::uint8_t>(count >> 8), 26};  // 26 / 255 > 1 / 10
            original.insert(original.end(), payload.begin(), payload.end());
            for (int i = 0; i < kMutations; ++i) {
                Bytes data = original;
                for (unsigned times = 1 + dice() % 3; times > 0 && !data.empty(); --times) {
                    mutate(data, dice);
                }
                DERL_CHECK(derl::tests::decode_anything(data.data(), data.size()),
                           "codec %d of %zu, mutation %d", static_cast<int>(layout.kind), count, i);
            }
        }
    }
}

}  // namespace

int main() {
    check_levels();
    check_decoders();
    return derl::tests::report("codecs");
}
