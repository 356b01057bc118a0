// native_kernels._native.aggregation: checks arguments, calls the kernels without the GIL.
#include <cmath>
#include <cstddef>
#include <string>
#include <vector>

#include "bindings/array_arguments.hpp"
#include "cpu/kernels.hpp"
#include "cpu/order_statistics.hpp"

namespace derl::bindings {

namespace {

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
        const Unlocked unlocked;
        derl::cpu::weighted_mean(rows, shares.data(), clients, parameters, result);
    }
    return mean;
}

constexpr py::ssize_t kMostClients = 4096;

void require_clients(const py::array& updates) {
    require(updates.shape(0) > 0, "updates: needs at least one row");
    require(updates.shape(0) <= kMostClients,
            "updates: must have at most " + std::to_string(kMostClients) + " rows, has " +
                std::to_string(updates.shape(0)));
}

// Says where the first NaN is.
[[noreturn]] void refuse_nan(const float* rows, const py::array& updates) {
    const auto parameters = static_cast<std::size_t>(updates.shape(1));
    std::size_t at = 0;
    const std::size_t end = static_cast<std::size_t>(updates.shape(0)) * parameters;
    while (at < end && !std::isnan(rows[at])) {
        ++at;
    }
    throw py::value_error("updates: entry [" + std::to_string(at / parameters) + ", " +
                          std::to_string(at % parameters) +
                          "] is not a number; leave out updates that hold one");
}

py::array_t<float> trimmed_mean(const py::array& updates, py::ssize_t trim, int threads) {
    const float* rows = checked<float>(updates, "updates", "float32[N, P]", 2);
    require_clients(updates);
    const py::ssize_t clients = updates.shape(0);
    require(trim >= 0 && 2 * trim < clients,
            "trim: must be at least 0 and less than half of the rows (" + std::to_string(clients) +
                "), is " + std::to_string(trim));
    require(threads >= 1, "threads: must be at least 1, is " + std::to_string(threads));
    py::array_t<float> mean(updates.shape(1));
    float* result = mean.mutable_data();
    bool ordered;
    {
        const Unlocked unlocked;
        ordered = derl::cpu::mean_of_order_statistics(
            rows, static_cast<std::size_t>(clients), static_cast<std::size_t>(updates.shape(1)),
            static_cast<std::size_t>(trim), static_cast<std::size_t>(clients - trim), threads, result);
    }
    if (!ordered) {
        refuse_nan(rows, updates);
    }
    return mean;
}

py::array_t<float> coordinate_median(const py::array& updates, int threads) {
    checked<float>(updates, "updates", "float32[N, P]", 2);
    require_clients(updates);
    return trimmed_mean(updates, (updates.shape(0) - 1) / 2, threads);
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

}  // namespace

DERL_BINDINGS(aggregation, "How client updates and statistics are merged.") {
    module.def("weighted_mean", &weighted_mean, py::arg("updates"), py::arg("weights"),
               "updates float32[N, P], weights float64[N] -> float32[P]");
    module.def("coordinate_median", &coordinate_median, py::arg("updates"), py::arg("threads"));
    module.def("trimmed_mean", &trimmed_mean, py::arg("updates"), py::arg("trim"),
               py::arg("threads"));
    module.def("merge_moments", &merge_moments, py::arg("means"), py::arg("variances"),
               py::arg("counts"),
               "means float64[K, O], variances float64[K, O], counts float64[K] -> "
               "(mean float64[O], variance float64[O], count)");
}

}  // namespace derl::bindings
