// native_kernels._native.moments: checks arguments, calls the kernels without the GIL.
#include <cmath>
#include <cstddef>
#include <string>
#include <vector>

#include "bindings/array_arguments.hpp"
#include "cpu/moments.hpp"

namespace derl::bindings {

namespace {

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
        const Unlocked unlocked;
        total = derl::cpu::merge_moments(mean_copy.data(), variance_copy.data(), count_copy.data(),
                                         sets, columns, mean_out, variance_out);
        for (std::size_t column = 0; column < columns; ++column) {
            finite = finite && std::isfinite(mean_out[column]) && std::isfinite(variance_out[column]);
        }
    }
    require(finite, "means: too far apart, the merged moments exceed float64");
    return py::make_tuple(mean, variance, total);
}

template <class Sample>
py::tuple moments_of_samples(const py::array& samples, const char* wanted) {
    const Sample* data = checked<Sample>(samples, "samples", wanted, 2);
    require(samples.shape(0) > 0, "samples: needs at least one row");
    const auto rows = static_cast<std::size_t>(samples.shape(0));
    const auto columns = static_cast<std::size_t>(samples.shape(1));
    py::array_t<double> mean(samples.shape(1));
    py::array_t<double> variance(samples.shape(1));
    double* mean_out = mean.mutable_data();
    double* variance_out = variance.mutable_data();
    std::size_t bad = columns;
    {
        const Unlocked unlocked;
        derl::cpu::sample_moments(data, rows, columns, mean_out, variance_out);
        for (std::size_t column = columns; column-- > 0;) {
            if (!std::isfinite(mean_out[column]) || !std::isfinite(variance_out[column])) {
                bad = column;
            }
        }
    }
    require(bad == columns, "samples: must be finite, and their moments too; column " +
                                std::to_string(bad) + " is not");
    return py::make_tuple(mean, variance, static_cast<double>(rows));
}

py::tuple sample_moments(const py::array& samples) {
    constexpr const char* kWanted = "float32[K, O] or float64[K, O]";
    if (samples.dtype().equal(py::dtype::of<float>())) {
        return moments_of_samples<float>(samples, kWanted);
    }
    return moments_of_samples<double>(samples, kWanted);
}

}  // namespace

DERL_BINDINGS(moments, "Means and variances of samples, and of sets put together.") {
    module.def("merge_moments", &merge_moments, py::arg("means"), py::arg("variances"),
               py::arg("counts"),
               "means float64[K, O], variances float64[K, O], counts float64[K] -> "
               "(mean float64[O], variance float64[O], count)");
    module.def("sample_moments", &sample_moments, py::arg("samples"));
}

}  // namespace derl::bindings
