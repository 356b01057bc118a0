// native_kernels._native.rollouts: experience collected without leaving C++.
#include "cpu/rollout.hpp"

#include <cmath>

#include "bindings/batch_object.hpp"

namespace derl::bindings {

namespace {

// A collector with what it works on: the Python objects keep both alive.
class CollectorObject {
public:
    CollectorObject(const py::object& ppo, const py::object& batch, std::uint64_t seed)
        : ppo_(ppo),
          batch_object_(batch),
          batch_(batch.cast<BatchObject&>()),
          network_(ppo.cast<Ppo&>().network()),
          collector_(ppo.cast<Ppo&>(), batch_.environment, seed) {
        const EnvironmentFacts& facts = batch_.environment.facts();
        const bool is_discrete = facts.choices > 0;
        require(network_.observation_size == facts.observations,
                "ppo: its policy takes " + std::to_string(network_.observation_size) +
                    " observations, " + facts.name + " gives " +
                    std::to_string(facts.observations));
        require((network_.distribution == Distribution::kCategorical) == is_discrete,
                std::string("ppo: its distribution must be ") +
                    (is_discrete ? "categorical" : "gaussian") + " for " + facts.name);
        const int wanted = is_discrete ? facts.choices : facts.actions;
        require(network_.action_size == wanted,
                "ppo: its policy has " + std::to_string(network_.action_size) + " actions, " +
                    facts.name + " takes " + std::to_string(wanted));
    }

    py::dict collect(py::ssize_t n_steps, double gamma, double gae_lambda) {
        const BatchObject::Use use(batch_);
        if (!batch_.is_started) {
            batch_.environment.start(batch_.outputs.observations);
            batch_.is_started = true;
        }
        const py::ssize_t count = batch_.environment.count();
        py::array_t<float> observations({n_steps, count, width(network_.observation_size)});
        py::array_t<float> log_probs({n_steps, count}), values({n_steps, count}),
            rewards({n_steps, count}), advantages({n_steps, count}), returns({n_steps, count}),
            last_values(count);
        py::array_t<bool> episode_starts({n_steps, count});
        py::array actions;
        Actions places{};
        if (network_.distribution == Distribution::kCategorical) {
            py::array_t<std::int64_t> discrete({n_steps, count});
            places.discrete = discrete.mutable_data();
            actions = discrete;
        } else {
            py::array_t<float> continuous({n_steps, count, width(network_.action_size)});
            places.continuous = continuous.mutable_data();
            actions = continuous;
        }
        const RolloutArrays arrays{n_steps,
                                   observations.mutable_data(),
                                   places,
                                   log_probs.mutable_data(),
                                   values.mutable_data(),
                                   rewards.mutable_data(),
                                   reinterpret_cast<std::uint8_t*>(episode_starts.mutable_data()),
                                   last_values.mutable_data(),
                                   advantages.mutable_data(),
                                   returns.mutable_data()};
        {
            const Unlocked unlocked;
            collector_.collect(arrays, Discount::of(gamma, gae_lambda), batch_.outputs);
        }
        py::dict rollout;
        rollout["observations"] = observations;
        rollout["actions"] = actions;
        rollout["log_probs"] = log_probs;
        rollout["values"] = values;
        rollout["rewards"] = rewards;
        rollout["episode_starts"] = episode_starts;
        rollout["last_values"] = last_values;
        rollout["advantages"] = advantages;
        rollout["returns"] = returns;
        return rollout;
    }

    py::tuple episodes() const {
        const auto& found = collector_.episodes();
        py::array_t<double> sums(static_cast<py::ssize_t>(found.size()));
        py::array_t<std::int64_t> lengths(static_cast<py::ssize_t>(found.size()));
        for (std::size_t i = 0; i < found.size(); ++i) {
            sums.mutable_data()[i] = found[i].sum;
            lengths.mutable_data()[i] = found[i].length;
        }
        return py::make_tuple(sums, lengths);
    }

    std::int64_t steps() const { return collector_.steps(); }
    void set_steps(std::int64_t steps) { collector_.set_steps(steps); }

    py::array_t<double> running_returns() const {
        return py::array_t<double>(batch_.environment.count(), collector_.sums().data());
    }

    void resume(std::int64_t steps, const py::array& running_returns) {
        const auto* sums = checked<double>(running_returns, "running_returns", "float64[B]", 1);
        require_length(running_returns, "running_returns", batch_.environment.count(),
                       "the environments");
        for (py::ssize_t e = 0; e < running_returns.size(); ++e) {
            require(std::isfinite(sums[e]), "running_returns: every entry must be finite");
        }
        if (!batch_.is_started) {
            throw std::runtime_error("resume the environment before its collector");
        }
        collector_.resume(steps, sums);
    }

private:
    static py::ssize_t width(int size) { return size; }

    py::object ppo_, batch_object_;
    BatchObject& batch_;
    const ActorCritic& network_;
    Collector collector_;
};

}  // namespace

DERL_BINDINGS(rollouts, "Experience collected without leaving C++.") {
    py::class_<CollectorObject>(module, "Collector",
                                py::metaclass(reinterpret_cast<PyObject*>(&PyType_Type)))
        .def(py::init<const py::object&, const py::object&, std::uint64_t>(), py::arg("ppo"),
             py::arg("batch"), py::arg("seed"))
        .def("collect", &CollectorObject::collect, py::arg("n_steps"), py::arg("gamma"),
             py::arg("gae_lambda"))
        .def("episodes", &CollectorObject::episodes)
        .def("steps", &CollectorObject::steps)
        .def("set_steps", &CollectorObject::set_steps, py::arg("steps"))
        .def("running_returns", &CollectorObject::running_returns)
        .def("resume", &CollectorObject::resume, py::arg("steps"), py::arg("running_returns"));
}

}  // namespace derl::bindings
