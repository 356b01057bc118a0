// A batch of environments as Python holds it: with the arrays that its steps write to.
#pragma once

#include <memory>
#include <vector>

#include "bindings/array_arguments.hpp"
#include "cpu/batch_environment.hpp"

namespace derl::bindings {

class BatchObject {
public:
    BatchObject(int number, int count, std::uint64_t seed, bool is_exact, int threads);

    // Marks the batch as in use while the interpreter is free to run other threads.
    class Use {
    public:
        explicit Use(BatchObject& object);
        ~Use() { object_.is_in_use_ = false; }
        Use(const Use&) = delete;
        Use& operator=(const Use&) = delete;

    private:
        BatchObject& object_;
    };

    py::array_t<float> start(const py::object& seed);
    // What step returns, a borrowed reference; throws what Python is to raise.
    PyObject* step(PyObject* actions);
    py::array_t<float> set_states(const py::array& states);
    py::array_t<float> resume(const py::array& states, const py::array& elapsed,
                              const py::array& episodes);
    py::array_t<double> states() const;
    py::array_t<std::int32_t> elapsed_steps() const;
    py::array_t<std::int64_t> episodes() const;

    BatchEnvironment environment;
    bool is_started = false;
    py::array observations, rewards, terminated, truncated, final_observations;
    StepOutputs outputs;

private:
    bool is_fit(PyObject* actions) const;
    [[noreturn]] void refuse(PyObject* actions) const;
    const float* take(PyObject* actions);
    const double* checked_states(const py::array& states) const;

    bool is_in_use_ = false;
    py::tuple result_;
    py::dtype action_dtype_;
    std::vector<float> taken_;
};

}  // namespace derl::bindings
