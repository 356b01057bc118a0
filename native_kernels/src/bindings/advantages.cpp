// native_kernels._native.advantages: checks arguments, calls the kernels without the GIL.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>

#include "bindings/array_arguments.hpp"
#include "cpu/advantages.hpp"

namespace derl::bindings {

namespace {

void require_shape(const py::array& array, const char* name, const py::array& like,
                   const char* like_name) {
    require(array.shape(0) == like.shape(0) && array.shape(1) == like.shape(1),
            std::string(name) + ": must have the shape of " + like_name + " " + shape_text(like) +
                ", has " + shape_text(array));
}

void require_environments(const py::array& array, const char* name, const py::array& rewards) {
    require(array.shape(0) == rewards.shape(1),
            std::string(name) + ": must have as many entries as rewards has columns (" +
                std::to_string(rewards.shape(1)) + "), has " + std::to_string(array.shape(0)));
}

void require_share(double value, const char* name) {
    require(value >= 0.0 && value <= 1.0,
            std::string(name) + ": must be from 0 to 1, is " + std::to_string(value));
}

// A bool is read as a byte: NumPy lets a view put other numbers than 0 and 1 into one.
const std::uint8_t* checked_flags(const py::array& array, const char* name, const char* wanted,
                                  py::ssize_t axes) {
    return reinterpret_cast<const std::uint8_t*>(checked<bool>(array, name, wanted, axes));
}

RewardTrace checked_trace(const py::array& rewards, const py::array& episode_starts,
                          const py::array& last_values, const py::array& last_dones) {
    RewardTrace trace{};
    trace.rewards = checked<float>(rewards, "rewards", "float32[T, B]", 2);
    trace.episode_starts = checked_flags(episode_starts, "episode_starts", "bool[T, B]", 2);
    trace.last_values = checked<float>(last_values, "last_values", "float32[B]", 1);
    trace.last_dones = checked_flags(last_dones, "last_dones", "bool[B]", 1);
    trace.steps = static_cast<std::size_t>(rewards.shape(0));
    trace.environments = static_cast<std::size_t>(rewards.shape(1));
    require_shape(episode_starts, "episode_starts", rewards, "rewards");
    require_environments(last_values, "last_values", rewards);
    require_environments(last_dones, "last_dones", rewards);
    return trace;
}

py::tuple generalized_advantages(const py::array& rewards, const py::array& values,
                                 const py::array& episode_starts, const py::array& last_values,
                                 const py::array& last_dones, double gamma, double gae_lambda) {
    const RewardTrace trace = checked_trace(rewards, episode_starts, last_values, last_dones);
    const float* estimates = checked<float>(values, "values", "float32[T, B]", 2);
    require_shape(values, "values", rewards, "rewards");
    require_share(gamma, "gamma");
    require_share(gae_lambda, "gae_lambda");
    py::array_t<float> advantages({rewards.shape(0), rewards.shape(1)});
    py::array_t<float> returns({rewards.shape(0), rewards.shape(1)});
    float* advantages_out = advantages.mutable_data();
    float* returns_out = returns.mutable_data();
    {
        const Unlocked unlocked;
        DERL_AT_LEVEL(generalized_advantages)
        (trace, estimates, Discount::of(gamma, gae_lambda), advantages_out, returns_out);
    }
    return py::make_tuple(advantages, returns);
}

py::array_t<float> discounted_returns(const py::array& rewards, const py::array& episode_starts,
                                      const py::array& last_values, const py::array& last_dones,
                                      double gamma) {
    const RewardTrace trace = checked_trace(rewards, episode_starts, last_values, last_dones);
    require_share(gamma, "gamma");
    py::array_t<float> returns({rewards.shape(0), rewards.shape(1)});
    float* returns_out = returns.mutable_data();
    {
        const Unlocked unlocked;
        DERL_AT_LEVEL(discounted_returns)(trace, static_cast<float>(gamma), returns_out);
    }
    return returns;
}

}  // namespace

DERL_BINDINGS(advantages, "Advantages and returns of a rollout.") {
    module.def("generalized_advantages", &generalized_advantages, py::arg("rewards"),
               py::arg("values"), py::arg("episode_starts"), py::arg("last_values"),
               py::arg("last_dones"), py::arg("gamma"), py::arg("gae_lambda"));
    module.def("discounted_returns", &discounted_returns, py::arg("rewards"),
               py::arg("episode_starts"), py::arg("last_values"), py::arg("last_dones"),
               py::arg("gamma"));
}

}  // namespace derl::bindings
