// native_kernels._native.environments: facts about environments and batches of them.
#include "bindings/batch_object.hpp"

namespace derl::bindings {

namespace {

using Shared = std::shared_ptr<BatchObject>;

// pybind11 takes 0.2 us to call a method, a step of 64 environments less than 0.5: `step` is a bare
// function of C that holds its batch.
PyObject* step(PyObject* capsule, PyObject* actions) {
    auto* batch = static_cast<Shared*>(PyCapsule_GetPointer(capsule, nullptr));
    try {
        PyObject* result = (*batch)->step(actions);
        Py_INCREF(result);
        return result;
    } catch (py::error_already_set& error) {
        error.restore();
    } catch (const py::builtin_exception& error) {
        error.set_error();
    } catch (const std::exception& error) {
        PyErr_SetString(PyExc_RuntimeError, error.what());
    }
    return nullptr;
}

PyMethodDef step_definition = {
    "step", &step, METH_O,
    "actions int64[B] or float32[B, A] -> (observations float32[B, O], rewards float32[B], "
    "terminated bool[B], truncated bool[B])"};

py::object step_function(const Shared& batch) {
    const py::capsule owner(new Shared(batch), [](void* p) { delete static_cast<Shared*>(p); });
    return py::reinterpret_steal<py::object>(PyCFunction_New(&step_definition, owner.ptr()));
}

py::tuple numbers(const float* x, int count) {
    py::tuple tuple(count);
    for (int i = 0; i < count; ++i) {
        tuple[static_cast<std::size_t>(i)] = x[i];
    }
    return tuple;
}

py::list all_facts() {
    py::list all;
    for (int number = 0; environment_facts(number) != nullptr; ++number) {
        const EnvironmentFacts& facts = *environment_facts(number);
        py::dict row;
        row["id"] = facts.name;
        row["observation_size"] = facts.observations;
        row["action_size"] = facts.actions;
        row["n_actions"] = facts.choices;
        row["action_low"] = facts.action_low;
        row["action_high"] = facts.action_high;
        row["observation_low"] = numbers(facts.observation_low, facts.observations);
        row["observation_high"] = numbers(facts.observation_high, facts.observations);
        row["max_episode_steps"] = facts.max_steps;
        row["state_size"] = facts.states;
        all.append(row);
    }
    return all;
}

}  // namespace

DERL_BINDINGS(environments, "Facts about environments and batches of them.") {
    module.def("all_facts", &all_facts, "In the order of their numbers.");
    module.attr("MAX_COUNT") = BatchEnvironment::kMaxCount;
    py::class_<BatchObject, Shared>(module, "Batch",
                                    py::metaclass(reinterpret_cast<PyObject*>(&PyType_Type)))
        .def(py::init<int, int, std::uint64_t, bool, int>(), py::arg("number"), py::arg("count"),
             py::arg("seed"), py::arg("is_exact"), py::arg("threads"))
        .def("start", &BatchObject::start, py::arg("seed"))
        .def("step_function", &step_function)
        .def("states", &BatchObject::states)
        .def("set_states", &BatchObject::set_states, py::arg("states"))
        .def("resume", &BatchObject::resume, py::arg("states"), py::arg("elapsed_steps"),
             py::arg("episodes"))
        .def("elapsed_steps", &BatchObject::elapsed_steps)
        .def("episodes", &BatchObject::episodes)
        .def_property_readonly("observations", [](const BatchObject& b) { return b.observations; })
        .def_property_readonly("final_observations",
                               [](const BatchObject& b) { return b.final_observations; });
}

}  // namespace derl::bindings
