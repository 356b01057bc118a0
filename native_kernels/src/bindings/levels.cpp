// native_kernels._native.levels: the processor level whose kernels run.
#include <string>

#include "bindings/binding.hpp"
#include "cpu/dispatch.hpp"

namespace derl::bindings {

DERL_BINDINGS(levels, "The processor level whose kernels run: generic, v2, avx2 or avx512.") {
    module.def("of_this_machine", [] { return std::string(name_of(level_of_this_machine())); });
    module.def("in_force", [] { return std::string(name_of(level_in_force())); });
    module.def("force", [](const std::string& name) { force_level(name.c_str()); }, py::arg("name"));
}

}  // namespace derl::bindings
