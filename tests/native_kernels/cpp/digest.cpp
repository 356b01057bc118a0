// One line per case with a digest of what was computed: the same lines wherever this is built and
// run. `digest [threads]`; DERL_CPU_LEVEL names the level.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "cpu/advantages.hpp"
#include "cpu/aggregation.hpp"
#include "cpu/batch_environment.hpp"
#include "cpu/codecs.hpp"
#include "cpu/distances.hpp"
#include "cpu/elementary.hpp"
#include "cpu/moments.hpp"
#include "cpu/norms.hpp"
#include "cpu/order_statistics.hpp"
#include "cpu/philox.hpp"
#include "cpu/ppo.hpp"
#include "cpu/rollout.hpp"

namespace derl::tests {

namespace {

// Fowler, Noll and Vo's hash, 64 bits, variant 1a.
class Digest {
public:
    template <class T>
    Digest& add(const std::vector<T>& values) {
        return add(values.data(), values.size() * sizeof(T));
    }
    Digest& add(const void* data, std::size_t size) {
        const auto* bytes = static_cast<const unsigned char*>(data);
        for (std::size_t i = 0; i < size; ++i) {
            state_ = (state_ ^ bytes[i]) * 0x100000001b3u;
        }
        return *this;
    }
    void print(const std::string& name) const {
        std::printf("%-48s %016llx\n", name.c_str(), static_cast<unsigned long long>(state_));
    }

private:
    std::uint64_t state_ = 0xcbf29ce484222325u;
};

// Bits of a hash, scaled by powers of two: no library takes part in it.
std::vector<float> numbers(std::size_t count, float scale, std::uint64_t seed) {
    std::vector<float> all(count);
    for (std::size_t i = 0; i < count; ++i) {
        std::uint64_t z = (seed << 32) + i * 0x9E3779B97F4A7C15u + 0x632BE59BD9B4E019u;
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
        z ^= z >> 31;
        all[i] = (static_cast<float>(z >> 40) * 0x1p-23f - 1.0f) * scale;
    }
    return all;
}

void digest_elementary() {
    const std::vector<float> x = numbers(40001, 80.0f, 1), y = numbers(40001, 0x1p-70f, 2);
    const std::vector<float> z = numbers(40001, 0x1p-68f, 3);
    std::vector<float> out(x.size());
    const char* names[] = {"exp", "log", "tanh", "sine", "cosine"};
    for (int f = 0; f < 5; ++f) {
        std::vector<float> in = x;
        for (float& value : in) {
            value = f == 1 ? std::fabs(value) + 0x1p-100f : value;
        }
        DERL_AT_LEVEL(elementary)(static_cast<Elementary>(f), in.data(), in.size(), out.data());
        Digest().add(out).print(std::string("elementary ") + names[f]);
    }
    DERL_AT_LEVEL(fused_multiply_add)(x.data(), y.data(), z.data(), x.size(), out.data());
    Digest().add(out).print("elementary fma");
}

void digest_philox() {
    constexpr std::size_t kCount = 10007;
    std::vector<std::int32_t> counters(4 * kCount), words(4 * kCount);
    for (std::size_t i = 0; i < kCount; ++i) {
        counters[i] = static_cast<std::int32_t>(i);
    }
    DERL_AT_LEVEL(philox_words)(counters.data(), kCount, 0x123456789abcdefu, words.data());
    std::vector<float> normals(4 * kCount);
    DERL_AT_LEVEL(normals_of_words)(words.data(), kCount, normals.data());
    Digest().add(words).add(normals).print("philox");
}

// Steps of a batch with actions that do not depend on what is seen.
void digest_environment(const EnvironmentFacts& facts, int count, int threads) {
    BatchEnvironment environment(facts, count, 7, false, threads);
    const auto rows = static_cast<std::size_t>(count);
    const auto width = static_cast<std::size_t>(facts.observations);
    std::vector<float> observations(rows * width), finals(rows * width), rewards(rows);
    std::vector<std::uint8_t> terminated(rows), truncated(rows);
    const StepOutputs outputs{observations.data(), rewards.data(), terminated.data(),
                              truncated.data(), finals.data()};
    environment.start(observations.data());
    Digest digest;
    for (int step = 0; step < 700; ++step) {
        std::vector<float> actions =
            numbers(rows * static_cast<std::size_t>(facts.actions), 2.0f, 100 + step);
        for (float& action : actions) {
            action = facts.choices > 0 ? std::floor((action + 2.0f) * 0.24999f *
                                                    static_cast<float>(facts.choices))
                                       : action;
        }
        environment.step(actions.data(), outputs);
        digest.add(observations).add(rewards).add(terminated).add(truncated);
    }
    std::vector<double> states(rows * static_cast<std::size_t>(facts.states));
    environment.states(states.data());
    digest.add(states).print(std::string(facts.name) + " x " + std::to_string(count));
}

struct Shape {
    const char* name;
    PolicyShape policy;
    int steps, environments;
    std::int64_t batch_size;
};

std::vector<Shape> shapes() {
    using enum Distribution;
    using enum Activation;
    return {{"default", {4, 2, kCategorical, kTanh, {64, 64}, {64, 64}}, 256, 1, 64},
            {"gaussian", {3, 1, kGaussian, kTanh, {64, 64}, {64, 64}}, 32, 8, 100},
            {"odd", {7, 5, kCategorical, kRelu, {33, 17, 5}, {3}}, 13, 11, 48},
            {"wide", {17, 6, kGaussian, kRelu, {300}, {256, 100}}, 4, 33, 132},
            {"linear", {1, 3, kCategorical, kTanh, {}, {}}, 5, 3, 4}};
}

// A whole update over a rollout that the policy itself acted, with made-up rewards.
void digest_update(const Shape& shape, int threads) {
    const ActorCritic layout = laid_out(shape.policy);
    const std::vector<float> start = numbers(parameter_count(layout), 0.25f, 11);
    Ppo ppo(shape.policy, start.data(), threads);
    const auto samples = static_cast<std::size_t>(shape.steps) * shape.environments;
    const auto actions = static_cast<std::size_t>(shape.policy.action_size);
    const bool is_discrete = shape.policy.distribution == Distribution::kCategorical;
    const std::vector<float> observations =
        numbers(samples * static_cast<std::size_t>(shape.policy.observation_size), 2.0f, 12);
    std::vector<std::int64_t> discrete(samples);
    std::vector<float> continuous(samples * actions), values(samples), log_probs(samples);
    for (int t = 0; t < shape.steps; ++t) {
        const std::size_t row = static_cast<std::size_t>(t) * shape.environments;
        ppo.act(observations.data() + row * shape.policy.observation_size, shape.environments, 5,
                static_cast<std::uint64_t>(t),
                {is_discrete ? discrete.data() + row : nullptr,
                 is_discrete ? nullptr : continuous.data() + row * actions},
                values.data() + row, log_probs.data() + row);
    }
    const std::vector<float> rewards = numbers(samples, 1.0f, 13);
    const std::vector<float> last = numbers(static_cast<std::size_t>(shape.environments), 1.0f, 14);
    std::vector<std::uint8_t> starts(samples), dones(last.size());
    for (std::size_t i = 0; i < samples; ++i) {
        starts[i] = i % 29 == 0;
    }
    std::vector<float> advantages(samples), returns(samples);
    const RewardTrace trace{rewards.data(), starts.data(), last.data(), dones.data(),
                            static_cast<std::size_t>(shape.steps),
                            static_cast<std::size_t>(shape.environments)};
    DERL_AT_LEVEL(generalized_advantages)
    (trace, values.data(), Discount::of(0.99, 0.95), advantages.data(), returns.data());
    Digest().add(discrete).add(continuous).add(values).add(log_probs).add(advantages).add(returns)
        .print(std::string("act ") + shape.name);

    const RolloutView rollout{shape.steps,       shape.environments, observations.data(),
                              is_discrete ? discrete.data() : nullptr,
                              is_discrete ? nullptr : continuous.data(),
                              log_probs.data(),  values.data(),      advantages.data(),
                              returns.data()};
    const UpdateSettings settings{3e-4, 0.2, 0.3, 0.01, 0.5, 0.5, true, 0.0, shape.batch_size,
                                  4,    0.9, 0.999, 1e-5};
    const UpdateReport report = ppo.update(rollout, settings, {}, {nullptr, 99, 0});
    std::vector<float> after(ppo.parameter_count()), first(after.size()), second(after.size());
    ppo.read_parameters(after.data());
    ppo.read_moments(first.data(), second.data());
    const double losses[] = {report.policy_loss, report.value_loss, report.entropy_loss,
                             report.divergence, report.clip_fraction, report.loss};
    Digest().add(after).add(first).add(second).add(losses, sizeof losses)
        .print(std::string("update ") + shape.name);

    const std::vector<float> anchor = numbers(after.size(), 0.2f, 35);
    const std::vector<float> correction = numbers(after.size(), 0.01f, 36);
    ppo.update(rollout, settings, {0.3, anchor.data(), correction.data(), true}, {nullptr, 99, 4});
    ppo.read_parameters(after.data());
    ppo.read_gradient_sum(first.data());
    Digest().add(after).add(first).print(std::string("drift ") + shape.name);
}

// Two local rounds: rollouts of the policy in the environment and updates on them.
void digest_round(const EnvironmentFacts& facts, int environments, int steps, int threads) {
    const bool is_discrete = facts.choices > 0;
    const int actions = is_discrete ? facts.choices : facts.actions;
    const PolicyShape shape{facts.observations, actions,
                            is_discrete ? Distribution::kCategorical : Distribution::kGaussian,
                            Activation::kTanh, {64, 64}, {64, 64}};
    const std::vector<float> start = numbers(parameter_count(laid_out(shape)), 0.2f, 31);
    Ppo ppo(shape, start.data(), threads);
    BatchEnvironment environment(facts, environments, 32, false, threads);
    Collector collector(ppo, environment, 33);
    const auto rows = static_cast<std::size_t>(environments);
    const std::size_t samples = rows * static_cast<std::size_t>(steps);
    const auto width = static_cast<std::size_t>(facts.observations);
    std::vector<float> seen(rows * width), finals(seen.size()), reward(rows);
    std::vector<std::uint8_t> terminated(rows), truncated(rows);
    const StepOutputs outputs{seen.data(), reward.data(), terminated.data(), truncated.data(),
                              finals.data()};
    environment.start(seen.data());
    std::vector<float> observations(samples * width), log_probs(samples), values(samples);
    std::vector<float> rewards(samples), advantages(samples), returns(samples), last(rows);
    std::vector<std::int64_t> discrete(samples);
    std::vector<float> continuous(samples * static_cast<std::size_t>(actions));
    std::vector<std::uint8_t> starts(samples);
    Digest digest;
    for (std::uint64_t round = 0; round < 2; ++round) {
        const RolloutArrays arrays{steps, observations.data(),
                                   {is_discrete ? discrete.data() : nullptr,
                                    is_discrete ? nullptr : continuous.data()},
                                   log_probs.data(), values.data(), rewards.data(), starts.data(),
                                   last.data(), advantages.data(), returns.data()};
        collector.collect(arrays, Discount::of(0.99, 0.95), outputs);
        const RolloutView view{steps, environments, observations.data(), arrays.actions.discrete,
                               arrays.actions.continuous, log_probs.data(), values.data(),
                               advantages.data(), returns.data()};
        ppo.update(view, {3e-4, 0.2, 0.0, 0.0, 0.5, 0.5, true, 0.0, 64, 2, 0.9, 0.999, 1e-5}, {},
                   {nullptr, 34, 2 * round});
        std::vector<float> after(ppo.parameter_count());
        ppo.read_parameters(after.data());
        digest.add(observations).add(discrete).add(continuous).add(advantages).add(after);
        for (const Episode& episode : collector.episodes()) {
            digest.add(&episode.sum, sizeof episode.sum).add(&episode.length, sizeof episode.length);
        }
    }
    digest.print("rounds of " + std::string(facts.name) + " x " + std::to_string(environments));
}

void digest_aggregation(int threads) {
    for (const std::size_t rows : {1, 2, 5, 33, 70}) {
        const std::vector<float> updates = numbers(rows * 1003, 1.0f, rows);
        std::vector<float> mean(1003);
        cpu::mean_of_order_statistics(updates.data(), rows, 1003, rows / 4, rows - rows / 4, threads,
                                      mean.data());
        Digest digest;
        digest.add(mean);
        const std::vector<double> shares(rows, 1.0 / static_cast<double>(rows));
        cpu::weighted_mean(updates.data(), shares.data(), rows, 1003, threads, mean.data());
        digest.add(mean);
        std::vector<double> distances(rows * rows), lengths(rows), centre(1003), variance(1003);
        cpu::squared_distances(updates.data(), rows, 1003, threads, distances.data());
        cpu::norms(updates.data(), rows, 1003, threads, lengths.data());
        std::vector<float> clipped(updates.size());
        cpu::clip_norms(updates.data(), lengths.data(), 15.0, rows, 1003, threads, clipped.data());
        digest.add(distances).add(lengths).add(clipped);
        cpu::geometric_median(updates.data(), shares.data(), rows, 1003, {5, 0.0, threads},
                              centre.data());
        digest.add(centre);
        cpu::sample_moments(updates.data(), rows, 1003, centre.data(), variance.data());
        digest.add(centre).add(variance).print("aggregation of " + std::to_string(rows));
    }
}

void digest_codecs() {
    using enum CodecKind;
    const std::vector<float> update = numbers(5001, 0.02f, 20);
    for (const CodecKind kind : {kHalf, kInt8, kInt4, kTopK}) {
        const codecs::Layout layout{kind, update.size(), kind == kTopK ? 500u : 0u};
        std::vector<std::uint8_t> bytes(codecs::longest(layout));
        bytes.resize(codecs::encode(layout, update.data(), {true, 3}, bytes.data()));
        std::vector<float> back(update.size());
        if (codecs::decode(layout, bytes.data(), bytes.size(), back.data()) != codecs::Flaw::kNone) {
            std::abort();
        }
        Digest().add(bytes).add(back).print("codec " + std::to_string(static_cast<int>(kind)));
    }
}

}  // namespace

}  // namespace derl::tests

int main(int count, char** arguments) {
    using namespace derl::tests;
    const int threads = count > 1 ? std::atoi(arguments[1]) : 1;
    std::fprintf(stderr, "level %s, %d threads\n", derl::name_of(derl::level_in_force()), threads);
    digest_elementary();
    digest_philox();
    for (int number = 0; const auto* facts = derl::environment_facts(number); ++number) {
        digest_environment(*facts, 1, threads);
        digest_environment(*facts, 83, threads);
        digest_round(*facts, 1, 256, threads);
        digest_round(*facts, 67, 9, threads);
    }
    for (const Shape& shape : shapes()) {
        digest_update(shape, threads);
    }
    digest_aggregation(threads);
    digest_codecs();
    return 0;
}
