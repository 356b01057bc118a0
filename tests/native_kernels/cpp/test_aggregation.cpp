// Merging clients at every level and with several threads: the same bits, and nothing outside the
// arrays (they end where they end, for the sanitizers).
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "check.hpp"
#include "cpu/advantages.hpp"
#include "cpu/aggregation.hpp"
#include "cpu/distances.hpp"
#include "cpu/norms.hpp"
#include "cpu/order_statistics.hpp"

namespace {

using Floats = std::vector<float>;
using Doubles = std::vector<double>;

struct Size {
    std::size_t clients;
    std::size_t parameters;
};
// partial and whole registers, blocks, groups, tiles; one, two and more groups
constexpr Size kSizes[] = {{1, 1},   {2, 15},  {3, 16},   {4, 17},  {7, 63},  {9, 64},
                           {17, 65}, {32, 30}, {33, 130}, {50, 77}, {70, 5},  {5, 1030},
                           {3, 0},   {6, 1024}, {100, 40}, {130, 3}};

Floats random_updates(Size size) {
    std::mt19937 dice(static_cast<unsigned>(size.clients * 10'007 + size.parameters));
    std::normal_distribution<float> normal;
    Floats updates(size.clients * size.parameters);
    std::generate(updates.begin(), updates.end(), [&] { return normal(dice); });
    return updates;
}

Doubles merged(const Floats& updates, Size size, int threads) {
    const auto [clients, parameters] = size;
    const Doubles shares(clients, 1.0 / static_cast<double>(clients));
    Floats mean(parameters), clipped(updates.size());
    Doubles lengths(clients), distances(clients * clients), centre(parameters), all;
    const auto keep = [&](const auto& results) {
        all.insert(all.end(), results.begin(), results.end());
    };
    derl::cpu::weighted_mean(updates.data(), shares.data(), clients, parameters, threads,
                             mean.data());
    keep(mean);
    for (const std::size_t trim : {std::size_t{0}, clients / 5, clients / 3, (clients - 1) / 2}) {
        DERL_CHECK(derl::cpu::mean_of_order_statistics(updates.data(), clients, parameters, trim,
                                                       clients - trim, threads, mean.data()),
                   "%zu x %zu", clients, parameters);
        keep(mean);
    }
    derl::cpu::squared_distances(updates.data(), clients, parameters, threads, distances.data());
    keep(distances);
    derl::cpu::norms(updates.data(), clients, parameters, threads, lengths.data());
    keep(lengths);
    derl::cpu::clip_norms(updates.data(), lengths.data(), 1.0, clients, parameters, threads,
                          clipped.data());
    keep(clipped);
    DERL_CHECK(derl::cpu::geometric_median(updates.data(), shares.data(), clients, parameters,
                                           {3, 0.0, threads}, centre.data()),
               "%zu x %zu", clients, parameters);
    keep(centre);
    return all;
}

void check_levels_and_threads() {
    for (const Size size : kSizes) {
        const Floats updates = random_updates(size);
        const Doubles expected = merged(updates, size, 1);
        derl::tests::at_each_level([&](derl::Level level) {
            for (const int threads : {1, 3}) {
                const Doubles found = merged(updates, size, threads);
                DERL_CHECK(found.size() == expected.size() &&
                               std::memcmp(found.data(), expected.data(),
                                           expected.size() * sizeof(double)) == 0,
                           "%zu x %zu at %s with %d threads", size.clients, size.parameters,
                           name_of(level), threads);
            }
        });
    }
}

void check_medians() {
    for (const Size size : kSizes) {
        const auto [clients, parameters] = size;
        const Floats updates = random_updates(size);
        Floats median(parameters), column(clients);
        const std::size_t trim = (clients - 1) / 2;
        derl::cpu::mean_of_order_statistics(updates.data(), clients, parameters, trim,
                                            clients - trim, 1, median.data());
        for (std::size_t p = 0; p < parameters; ++p) {
            for (std::size_t n = 0; n < clients; ++n) {
                column[n] = updates[n * parameters + p];
            }
            std::sort(column.begin(), column.end());
            const float middle = (column[trim] + column[clients / 2]) / 2.0f;
            DERL_CHECK(median[p] == middle, "%zu x %zu, column %zu", clients, parameters, p);
        }
    }
}

void check_nan() {
    for (const Size size : kSizes) {
        Floats updates = random_updates(size);
        Floats mean(size.parameters);
        for (const std::size_t at : {std::size_t{0}, updates.size() / 2, updates.size() - 1}) {
            if (at >= updates.size()) {
                continue;
            }
            const float before = updates[at];
            updates[at] = std::numeric_limits<float>::quiet_NaN();
            derl::tests::at_each_level([&](derl::Level level) {
                DERL_CHECK(!derl::cpu::mean_of_order_statistics(updates.data(), size.clients,
                                                                size.parameters, 0, size.clients, 2,
                                                                mean.data()),
                           "%zu x %zu, entry %zu at %s", size.clients, size.parameters, at,
                           name_of(level));
            });
            updates[at] = before;
        }
    }
}

void check_advantages() {
    for (const Size size : kSizes) {
        // no structured binding: clang 14 does not let lambdas capture one
        const std::size_t steps = size.clients, environments = size.parameters;
        const Floats rewards = random_updates(size), last(environments, 0.5f);
        const std::vector<std::uint8_t> starts(rewards.size(), 0), dones(environments, 0);
        const derl::RewardTrace trace{rewards.data(), starts.data(), last.data(),
                                      dones.data(),   steps,         environments};
        Floats advantages(rewards.size()), returns(rewards.size()), discounted(rewards.size());
        derl::tests::at_each_level([&](derl::Level level) {
            DERL_AT_LEVEL(generalized_advantages)
            (trace, rewards.data(), derl::Discount::of(0.5, 1.0), advantages.data(),
             returns.data());
            DERL_AT_LEVEL(discounted_returns)(trace, 0.5f, discounted.data());
            for (std::size_t i = 0; i < rewards.size(); ++i) {
                DERL_CHECK(std::abs(returns[i] - discounted[i]) < 1e-5f, "%zu x %zu, %zu at %s",
                           steps, environments, i, name_of(level));
            }
        });
    }
}

}  // namespace

int main() {
    check_levels_and_threads();
    check_medians();
    check_nan();
    check_advantages();
    return derl::tests::report("test_aggregation");
}
