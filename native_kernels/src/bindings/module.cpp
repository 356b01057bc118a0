// The Python module native_kernels._native: one submodule for each file of bindings.
#include <map>
#include <string>

#include "bindings/binding.hpp"
#include "cpu/dispatch.hpp"

namespace derl::bindings {

namespace {

struct Submodule {
    const char* doc;
    void (*bind)(py::module_&);
};

std::map<std::string, Submodule>& submodules() {
    static std::map<std::string, Submodule> found;
    return found;
}

}  // namespace

Registration::Registration(const char* name, const char* doc, void (*bind)(py::module_&)) {
    submodules()[name] = {doc, bind};
}

}  // namespace derl::bindings

PYBIND11_MODULE(_native, module) {
    // here, where a wrong DERL_CPU_LEVEL or an old processor becomes an ImportError that says so
    derl::level_in_force();
    module.doc() = "C++ kernels; the documented face is native_kernels.";
    for (const auto& [name, submodule] : derl::bindings::submodules()) {
        pybind11::module_ inner = module.def_submodule(name.c_str(), submodule.doc);
        submodule.bind(inner);
    }
}
