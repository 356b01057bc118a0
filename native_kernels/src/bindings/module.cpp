// The Python module native_kernels._native: checks arguments, calls the kernels without the GIL.
#include <cmath>
#include <cstddef>
#include <stdexcept>
#include <string>
#include <vector>

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include "cpu/kernels.hpp"

namespace py = pybind11;

namespace {

std::string shape_text(const py::array& array) {
    std::string text = "[";
    for (py::ssize_t axis = 0; axis < array.ndim(); ++axis) {
        text += (axis ? ", " : "") + std::to_string(array.shape(axis));
    }
    return text + "]";
}

template <class T>
const T* checked(const py::array& array, const char* name, const char* wanted, py::ssize_t axes) {
    const std::string about = std::string(name) + ": must be " + wanted;
    // equality of dtypes also refuses foreign byte order
    if (!array.dtype().equal(py::dtype::of<T>())) {
        throw py::type_error(about + ", is " + std::string(py::str(array.dtype())) +
                             shape_text(array));
    }
    if (array.ndim() != axes) {
        throw py::value_error(about + ", has shape " + shape_text(array));
    }
    constexpr int sound = py::array::c_style | py::detail::npy_api::NPY_ARRAY_ALIGNED_;
    if ((array.flags() & sound) != sound) {
        throw py::value_error(about + " in C order and aligned; pass numpy.ascontiguousarray(" +
                              name + ")");
    }
    return static_cast<const T*>(array.data());
}

void require(bool condition, const std::string& message) {
    if (!condition) {
        throw py::value_error(message);
    }
}

void require_length(const py::array& array, const char* name, py::ssize_t wanted, const char* as) {
    require(array.shape(0) == wanted, std::string(name) + ": must have as many entries as " + as +
                                          " has rows (" + std::to_string(wanted) + "), has " +
                                          std::to_string(array.shape(0)));
}

// Refuses entries that are negative or not finite; returns their sum in order, which is positive.
double checked_sum(const std::vector<double>& entries, const char* name) {
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

py::array_t<float> weighted_mean(const py::array& updates, const py::array& weights) {
    const float* rows = checked<float>(updates, "updates", "float32[N, P]", 2);
    const double* weight = checked<double>(weights, "weights", "float64[N]", 1);
    const auto clients = static_cast<std::size_t>(updates.shape(0));
    const auto parameters = static_cast<std::size_t>(updates.shape(1));
    require(clients > 0, "updates: needs at least one row");
    require_length(weights, "weights", updates.shape(0), "updates");

    std::vector<double> shares(weight, weight + clients);
    const double sum = checked_sum(shares, "weights");
    for (double& share : shares) {
        share /= sum;
    }
    py::array_t<float> mean(updates.shape(1));
    float* result = mean.mutable_data();
    {
        py::gil_scoped_release unlocked;
        derl::cpu::weighted_mean(rows, shares.data(), clients, parameters, result);
    }
    return mean;
}

void require_moments(const std::vector<double>& means, const std::vector<double>& variances) {
    for (std::size_t i = 0; i < means.size(); ++i) {
        require(std::isfinite(means[i]), "means: every entry must be finite");
        require(std::isfinite(variances[i]) && variances[i] >= 0.0,
                "variances: every entry must be finite and not negative");
    }
}

py::tuple merge_moments(const py::array& means, const py::array& variances,
                        const py::array& counts) {
    const double* mean_rows = checked<double>(means, "means", "float64[K, O]", 2);
    const double* variance_rows = checked<double>(variances, "variances", "float64[K, O]", 2);
    const double* count_entries = checked<double>(counts, "counts", "float64[K]", 1);
    require(means.shape(0) > 0, "means: needs at least one row");
    require(variances.shape(0) == means.shape(0) && variances.shape(1) == means.shape(1),
            "variances: must have the shape of means " + shape_text(means) + ", has " +
                shape_text(variances));
    require_length(counts, "counts", means.shape(0), "means");

    const auto sets = static_cast<std::size_t>(means.shape(0));
    const auto columns = static_cast<std::size_t>(means.shape(1));
    // copies, so that what was checked is what is used when the GIL is free
    const std::vector<double> mean_copy(mean_rows, mean_rows + sets * columns);
    const std::vector<double> variance_copy(variance_rows, variance_rows + sets * columns);
    const std::vector<double> count_copy(count_entries, count_entries + sets);
    require_moments(mean_copy, variance_copy);
    checked_sum(count_copy, "counts");

    py::array_t<double> mean(means.shape(1));
    py::array_t<double> variance(means.shape(1));
    double* mean_out = mean.mutable_data();
    double* variance_out = variance.mutable_data();
    double total = 0.0;
    bool finite = true;
    {
        py::gil_scoped_release unlocked;
        total = derl::cpu::merge_moments(mean_copy.data(), variance_copy.data(), count_copy.data(),
                                         sets, columns, mean_out, variance_out);
        for (std::size_t column = 0; column < columns; ++column) {
            finite = finite && std::isfinite(mean_out[column]) && std::isfinite(variance_out[column]);
        }
    }
    require(finite, "means: too far apart, the merged moments exceed float64");
    return py::make_tuple(mean, variance, total);
}

}  // namespace

PYBIND11_MODULE(_native, module) {
    module.doc() = "C++ kernels; the documented face is native_kernels.";
    module.def("weighted_mean", &weighted_mean, py::arg("updates"), py::arg("weights"),
               "updates float32[N, P], weights float64[N] -> float32[P]");
    module.def("merge_moments", &merge_moments, py::arg("means"), py::arg("variances"),
               py::arg("counts"),
               "means float64[K, O], variances float64[K, O], counts float64[K] -> "
               "(mean float64[O], variance float64[O], count)");
}
