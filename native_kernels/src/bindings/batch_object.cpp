#include "bindings/batch_object.hpp"

#include <cmath>
#include <cstdlib>

namespace derl::bindings {

namespace {

// From here on other Python threads are let run during a step, which costs 0.1 us.
constexpr int kLongStep = 4096;

// Arrays on lines of the processor's cache: stores of sixteen lanes that cross lines cost double.
template <class T>
py::array aligned_array(std::vector<py::ssize_t> shape) {
    std::size_t bytes = sizeof(T);
    for (const py::ssize_t length : shape) {
        bytes *= static_cast<std::size_t>(length);
    }
    void* memory = std::aligned_alloc(64, (bytes + 63) / 64 * 64);
    if (memory == nullptr) {
        throw std::bad_alloc();
    }
    std::memset(memory, 0, bytes);
    const py::capsule owner(memory, [](void* p) { std::free(p); });
    return py::array_t<T>(std::move(shape), static_cast<T*>(memory), owner);
}

const EnvironmentFacts& facts_of(int number) {
    const EnvironmentFacts* facts = environment_facts(number);
    require(facts != nullptr, "number: no environment has it");
    return *facts;
}

}  // namespace

BatchObject::Use::Use(BatchObject& object) : object_(object) {
    if (object.is_in_use_) {
        throw std::runtime_error("this batch of environments is in use by another thread; give "
                                 "each thread a batch of its own");
    }
    object.is_in_use_ = true;
}

BatchObject::BatchObject(int number, int count, std::uint64_t seed, bool is_exact, int threads)
    : environment(facts_of(number), count, seed, is_exact, threads),
      observations(aligned_array<float>({count, environment.facts().observations})),
      rewards(aligned_array<float>({count})),
      terminated(aligned_array<bool>({count})),
      truncated(aligned_array<bool>({count})),
      final_observations(aligned_array<float>({count, environment.facts().observations})),
      outputs{static_cast<float*>(observations.mutable_data()),
              static_cast<float*>(rewards.mutable_data()),
              static_cast<std::uint8_t*>(terminated.mutable_data()),
              static_cast<std::uint8_t*>(truncated.mutable_data()),
              static_cast<float*>(final_observations.mutable_data())},
      result_(py::make_tuple(observations, rewards, terminated, truncated)),
      action_dtype_(environment.facts().choices > 0 ? py::dtype::of<std::int64_t>()
                                                    : py::dtype::of<float>()),
      taken_(environment.stride()) {}

py::array_t<float> BatchObject::start(const py::object& seed) {
    const Use use(*this);
    if (!seed.is_none()) {
        environment.reseed(seed.cast<std::uint64_t>());
    }
    environment.start(outputs.observations);
    is_started = true;
    return observations;
}

bool BatchObject::is_fit(PyObject* actions) const {
    const auto& npy = py::detail::npy_api::get();
    if (!npy.PyArray_Check_(actions)) {
        return false;
    }
    const auto* array = py::detail::array_proxy(actions);
    constexpr int sound =
        py::detail::npy_api::NPY_ARRAY_C_CONTIGUOUS_ | py::detail::npy_api::NPY_ARRAY_ALIGNED_;
    const bool is_discrete = environment.facts().choices > 0;
    // an equal dtype may be another object
    return (array->descr == action_dtype_.ptr() ||
            action_dtype_.equal(py::reinterpret_borrow<py::object>(array->descr))) &&
           array->nd == (is_discrete ? 1 : 2) &&
           array->dimensions[0] == environment.count() &&
           (is_discrete || array->dimensions[1] == environment.facts().actions) &&
           (array->flags & sound) == sound;
}

void BatchObject::refuse(PyObject* actions) const {
    const EnvironmentFacts& facts = environment.facts();
    const std::string count = std::to_string(environment.count());
    const bool is_discrete = facts.choices > 0;
    const std::string wanted = is_discrete
                                   ? "int64[" + count + "]"
                                   : "float32[" + count + ", " + std::to_string(facts.actions) + "]";
    if (!py::isinstance<py::array>(actions)) {
        throw py::type_error("actions: must be a NumPy array " + wanted + ", is " +
                             Py_TYPE(actions)->tp_name);
    }
    const auto array = py::reinterpret_borrow<py::array>(actions);
    if (is_discrete) {
        checked<std::int64_t>(array, "actions", wanted.c_str(), 1);
    } else {
        checked<float>(array, "actions", wanted.c_str(), 2);
    }
    throw py::value_error("actions: must be " + wanted + ", has shape " + shape_text(array));
}

// The actions as floats; throws where one is none.
const float* BatchObject::take(PyObject* actions) {
    const EnvironmentFacts& facts = environment.facts();
    const int count = environment.count();
    const char* data = py::detail::array_proxy(actions)->data;
    if (facts.choices > 0) {
        const auto* numbers = reinterpret_cast<const std::int64_t*>(data);
        const int wrong = DERL_AT_LEVEL(take_choices)(numbers, count, facts.choices, taken_.data());
        require(wrong == count, "actions: entry " + std::to_string(wrong) + " must be from 0 to " +
                                    std::to_string(facts.choices - 1) + ", is " +
                                    std::to_string(numbers[wrong == count ? 0 : wrong]));
        return taken_.data();
    }
    const auto* numbers = reinterpret_cast<const float*>(data);
    const int wrong = DERL_AT_LEVEL(first_not_finite)(numbers, count * facts.actions);
    require(wrong == count * facts.actions,
            "actions: entry " + std::to_string(wrong / facts.actions) + " is not finite");
    return numbers;
}

PyObject* BatchObject::step(PyObject* actions) {
    if (!is_fit(actions)) {
        refuse(actions);
    }
    if (!is_started) {
        throw std::runtime_error("call reset before step");
    }
    const Use use(*this);
    const float* taken = take(actions);
    if (environment.count() < kLongStep) {
        environment.step(taken, outputs);
    } else {
        const Unlocked unlocked;
        environment.step(taken, outputs);
    }
    return result_.ptr();
}

const double* BatchObject::checked_states(const py::array& states) const {
    const double* numbers = checked<double>(states, "states", "float64[B, S]", 2);
    require_length(states, "states", environment.count(), "the batch");
    const py::ssize_t width = environment.facts().states;
    require(states.shape(1) == width, "states: must be float64[B, " + std::to_string(width) +
                                          "], has shape " + shape_text(states));
    for (py::ssize_t i = 0; i < states.size(); ++i) {
        require(std::isfinite(numbers[i]) && std::fabs(numbers[i]) <= 1e6,
                "states: row " + std::to_string(i / width) +
                    " must be finite and within 1e6, has " + std::to_string(numbers[i]));
    }
    return numbers;
}

py::array_t<float> BatchObject::set_states(const py::array& states) {
    const Use use(*this);
    environment.set_states(checked_states(states), outputs.observations);
    is_started = true;
    return observations;
}

py::array_t<float> BatchObject::resume(const py::array& states, const py::array& elapsed,
                                       const py::array& episodes) {
    const Use use(*this);
    const double* numbers = checked_states(states);
    const auto* steps = checked<std::int32_t>(elapsed, "elapsed_steps", "int32[B]", 1);
    const auto* started = checked<std::int64_t>(episodes, "episodes", "int64[B]", 1);
    require_length(elapsed, "elapsed_steps", environment.count(), "the batch");
    require_length(episodes, "episodes", environment.count(), "the batch");
    const int limit = environment.facts().max_steps;
    constexpr std::int64_t kLastEpisode = 0xfffffffe;
    for (int e = 0; e < environment.count(); ++e) {
        require(steps[e] >= 0 && steps[e] < limit,
                "elapsed_steps: must be from 0 to " + std::to_string(limit - 1) + ", entry " +
                    std::to_string(e) + " is " + std::to_string(steps[e]));
        require(started[e] >= 0 && started[e] <= kLastEpisode,
                "episodes: must be from 0 to " + std::to_string(kLastEpisode) + ", entry " +
                    std::to_string(e) + " is " + std::to_string(started[e]));
    }
    environment.resume(numbers, steps, started, outputs.observations);
    is_started = true;
    return observations;
}

py::array_t<double> BatchObject::states() const {
    py::array_t<double> states({environment.count(), environment.facts().states});
    environment.states(states.mutable_data());
    return states;
}

py::array_t<std::int32_t> BatchObject::elapsed_steps() const {
    return py::array_t<std::int32_t>(environment.count(), environment.batch().elapsed);
}

py::array_t<std::int64_t> BatchObject::episodes() const {
    py::array_t<std::int64_t> episodes(environment.count());
    for (py::ssize_t e = 0; e < episodes.size(); ++e) {
        episodes.mutable_at(e) = static_cast<std::int64_t>(environment.batch().episode[e]) - 1;
    }
    return episodes;
}

}  // namespace derl::bindings
