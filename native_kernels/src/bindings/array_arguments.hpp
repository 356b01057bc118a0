// Checks of array arguments; the message names the argument, what it must be and what it is.
#pragma once

#include <cmath>
#include <string>
#include <vector>

#include "bindings/binding.hpp"

namespace derl::bindings {

inline std::string shape_text(const py::array& array) {
    std::string text = "[";
    for (py::ssize_t axis = 0; axis < array.ndim(); ++axis) {
        text += (axis ? ", " : "") + std::to_string(array.shape(axis));
    }
    return text + "]";
}

inline void require(bool condition, const std::string& message) {
    if (!condition) {
        throw py::value_error(message);
    }
}

// The data of an array of T with so many axes, in C order and aligned; nothing is converted.
// `wanted` says dtype and shape in words, as in "float32[N, P]".
template <class T>
const T* checked(const py::array& array, const char* name, const char* wanted, py::ssize_t axes) {
    const std::string about = std::string(name) + ": must be " + wanted;
    // equality of dtypes also refuses foreign byte order
    if (!array.dtype().equal(py::dtype::of<T>())) {
        throw py::type_error(about + ", is " + std::string(py::str(array.dtype())) +
                             shape_text(array));
    }
    require(array.ndim() == axes, about + ", has shape " + shape_text(array));
    constexpr int sound = static_cast<int>(py::array::c_style) |
                          static_cast<int>(py::detail::npy_api::NPY_ARRAY_ALIGNED_);
    require((array.flags() & sound) == sound,
            about + " in C order and aligned; pass numpy.ascontiguousarray(" + name + ")");
    return static_cast<const T*>(array.data());
}

// The same for an array that is written to.
template <class T>
T* checked_output(py::array& array, const char* name, const char* wanted, py::ssize_t axes) {
    checked<T>(array, name, wanted, axes);
    require(array.writeable(), std::string(name) + ": must be writeable");
    return static_cast<T*>(array.mutable_data());
}

inline void require_length(const py::array& array, const char* name, py::ssize_t wanted,
                           const char* as) {
    require(array.shape(0) == wanted, std::string(name) + ": must have as many entries as " + as +
                                          " has rows (" + std::to_string(wanted) + "), has " +
                                          std::to_string(array.shape(0)));
}

// Refuses entries that are negative or not finite; returns their sum in order, which is positive.
inline double checked_sum(const std::vector<double>& entries, const char* name) {
    double sum = 0.0;
    for (std::size_t i = 0; i < entries.size(); ++i) {
        require(std::isfinite(entries[i]) && entries[i] >= 0.0,
                std::string(name) + ": every entry must be finite and not negative, entry " +
                    std::to_string(i) + " is " + std::to_string(entries[i]));
        sum += entries[i];
    }
    require(sum > 0.0, std::string(name) + ": at least one entry must be above zero");
    require(std::isfinite(sum), std::string(name) + ": the sum exceeds float64");
    return sum;
}

}  // namespace derl::bindings
