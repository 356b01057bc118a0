// Batches of environments over arrays that are exactly as long as they must be: counts about the
// width of a vector, every level, threads, extreme states.
#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "check.hpp"
#include "cpu/batch_environment.hpp"

namespace {

using derl::BatchEnvironment;
using derl::EnvironmentFacts;

constexpr int kSteps = 60;

struct Outputs {
    std::vector<float> observations, rewards, finals;
    std::vector<std::uint8_t> terminated, truncated;

    Outputs(const EnvironmentFacts& facts, int count)
        : observations(static_cast<std::size_t>(count * facts.observations)),
          rewards(static_cast<std::size_t>(count)),
          finals(observations.size()),
          terminated(rewards.size()),
          truncated(rewards.size()) {}
    derl::StepOutputs places() {
        return {observations.data(), rewards.data(), terminated.data(), truncated.data(),
                finals.data()};
    }
};

std::vector<float> some_actions(const EnvironmentFacts& facts, int count, std::mt19937& dice) {
    std::vector<float> actions(static_cast<std::size_t>(count * facts.actions));
    for (float& action : actions) {
        action = facts.choices > 0 ? static_cast<float>(dice() % static_cast<unsigned>(facts.choices))
                                   : static_cast<float>(static_cast<int>(dice() % 6001) - 3000) / 1e3f;
    }
    return actions;
}

std::vector<float> played(const EnvironmentFacts& facts, int count, bool is_exact, int threads) {
    BatchEnvironment batch(facts, count, 5, is_exact, threads);
    Outputs outputs(facts, count);
    std::mt19937 dice(1);
    batch.start(outputs.observations.data());
    std::vector<float> seen = outputs.observations;
    for (int t = 0; t < kSteps; ++t) {
        batch.step(some_actions(facts, count, dice).data(), outputs.places());
        seen.insert(seen.end(), outputs.observations.begin(), outputs.observations.end());
        seen.insert(seen.end(), outputs.rewards.begin(), outputs.rewards.end());
    }
    return seen;
}

void check_levels(const EnvironmentFacts& facts) {
    for (const int count : {1, 15, 16, 17, 33}) {
        const std::vector<float> expected = played(facts, count, false, 1);
        derl::tests::at_each_level([&](derl::Level level) {
            DERL_CHECK(played(facts, count, false, 1) == expected, "%s, %d, %s", facts.name, count,
                       name_of(level));
        });
        for (const float x : played(facts, count, true, 1)) {
            DERL_CHECK(std::isfinite(x), "%s, %d, exact", facts.name, count);
        }
    }
}

void check_extreme_states(const EnvironmentFacts& facts) {
    constexpr int kCount = 18;
    for (const bool is_exact : {false, true}) {
        for (const double extreme : {-1e6, 0.0, 1e6}) {
            BatchEnvironment batch(facts, kCount, 5, is_exact, 1);
            Outputs outputs(facts, kCount);
            std::mt19937 dice(2);
            std::vector<double> states(static_cast<std::size_t>(kCount * facts.states), extreme);
            batch.set_states(states.data(), outputs.observations.data());
            for (int t = 0; t < 3; ++t) {
                batch.step(some_actions(facts, kCount, dice).data(), outputs.places());
            }
            batch.states(states.data());
            DERL_CHECK(states.size() == static_cast<std::size_t>(kCount * facts.states), "%s",
                       facts.name);
        }
    }
}

void check_threads(const EnvironmentFacts& facts) {
    constexpr int kCount = 3 * (1 << 15) + 5;
    Outputs one(facts, kCount), many(facts, kCount);
    BatchEnvironment alone(facts, kCount, 5, false, 1), together(facts, kCount, 5, false, 3);
    alone.start(one.observations.data());
    together.start(many.observations.data());
    std::mt19937 dice(3);
    for (int t = 0; t < 3; ++t) {
        const std::vector<float> actions = some_actions(facts, kCount, dice);
        const int n = alone.step(actions.data(), one.places());
        DERL_CHECK(together.step(actions.data(), many.places()) == n, "%s", facts.name);
        DERL_CHECK(one.observations == many.observations && one.rewards == many.rewards, "%s",
                   facts.name);
    }
}

void check_refusals() {
    const std::vector<std::int64_t> choices = {0, 1, 2, -1, 3};
    std::vector<float> taken(choices.size());
    derl::tests::at_each_level([&](derl::Level level) {
        DERL_CHECK(DERL_AT_LEVEL(take_choices)(choices.data(), 5, 3, taken.data()) == 3, "%s",
                   name_of(level));
        DERL_CHECK(DERL_AT_LEVEL(take_choices)(choices.data(), 3, 3, taken.data()) == 3, "%s",
                   name_of(level));
        for (int wrong = 0; wrong < 40; ++wrong) {
            std::vector<float> numbers(40, 1.0f);
            numbers[static_cast<std::size_t>(wrong)] = wrong % 2 ? std::nanf("") : INFINITY;
            DERL_CHECK(DERL_AT_LEVEL(first_not_finite)(numbers.data(), 40) == wrong, "%s",
                       name_of(level));
            DERL_CHECK(DERL_AT_LEVEL(first_not_finite)(numbers.data(), wrong) == wrong, "%s",
                       name_of(level));
        }
    });
}

}  // namespace

int main() {
    for (int number = 0; derl::environment_facts(number) != nullptr; ++number) {
        const EnvironmentFacts& facts = *derl::environment_facts(number);
        check_levels(facts);
        check_extreme_states(facts);
        check_threads(facts);
    }
    check_refusals();
    return derl::tests::report("test_environments");
}
