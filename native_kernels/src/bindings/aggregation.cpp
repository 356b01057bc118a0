// native_kernels._native.aggregation: checks arguments, calls the kernels without the GIL.
#include <cmath>
#include <cstddef>
#include <string>
#include <vector>

#include "bindings/array_arguments.hpp"
#include "cpu/aggregation.hpp"
#include "cpu/distances.hpp"
#include "cpu/norms.hpp"
#include "cpu/order_statistics.hpp"

namespace derl::bindings {

namespace {

void require_threads(int threads) {
    require(threads >= 1 && threads <= 1024,
            "threads: must be from 1 to 1024, is " + std::to_string(threads));
}

// The weights of updates' rows, divided by their sum.
std::vector<double> checked_shares(const py::array& weights, const py::array& updates) {
    const IeeeFloats modes;
    const double* weight = checked<double>(weights, "weights", "float64[N]", 1);
    require_length(weights, "weights", updates.shape(0), "updates");
    std::vector<double> shares(weight, weight + updates.shape(0));
    const double sum = checked_sum(shares, "weights");
    for (double& share : shares) {
        share /= sum;
    }
    return shares;
}

py::array_t<float> weighted_mean(const py::array& updates, const py::array& weights, int threads) {
    const float* rows = checked<float>(updates, "updates", "float32[N, P]", 2);
    const auto clients = static_cast<std::size_t>(updates.shape(0));
    const auto parameters = static_cast<std::size_t>(updates.shape(1));
    require(clients > 0, "updates: needs at least one row");
    const std::vector<double> shares = checked_shares(weights, updates);
    require_threads(threads);
    py::array_t<float> mean(updates.shape(1));
    float* result = mean.mutable_data();
    {
        const Unlocked unlocked;
        derl::cpu::weighted_mean(rows, shares.data(), clients, parameters, threads, result);
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

// Says where the first unfit entry is, if there is one.
template <class Unfit>
void refuse_first(const float* rows, const py::array& updates, Unfit unfit, const char* is) {
    const auto parameters = static_cast<std::size_t>(updates.shape(1));
    const std::size_t end = static_cast<std::size_t>(updates.shape(0)) * parameters;
    for (std::size_t at = 0; at < end; ++at) {
        require(!unfit(rows[at]), "updates: entry [" + std::to_string(at / parameters) + ", " +
                                      std::to_string(at % parameters) + "] is " + is +
                                      "; leave out updates that hold such");
    }
}

void refuse_nan(const float* rows, const py::array& updates) {
    refuse_first(rows, updates, [](float x) { return std::isnan(x); }, "not a number");
}

void refuse_not_finite(const float* rows, const py::array& updates) {
    refuse_first(rows, updates, [](float x) { return !std::isfinite(x); }, "not finite");
}

py::array_t<float> trimmed_mean(const py::array& updates, py::ssize_t trim, int threads) {
    const float* rows = checked<float>(updates, "updates", "float32[N, P]", 2);
    require_clients(updates);
    const py::ssize_t clients = updates.shape(0);
    require(trim >= 0 && trim <= (clients - 1) / 2,
            "trim: must be at least 0 and less than half of the rows (" + std::to_string(clients) +
                "), is " + std::to_string(trim));
    require_threads(threads);
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

py::array_t<double> squared_distances(const py::array& updates, int threads) {
    const float* rows = checked<float>(updates, "updates", "float32[N, P]", 2);
    require_clients(updates);
    require_threads(threads);
    const auto clients = static_cast<std::size_t>(updates.shape(0));
    const auto parameters = static_cast<std::size_t>(updates.shape(1));
    py::array_t<double> distances({updates.shape(0), updates.shape(0)});
    double* result = distances.mutable_data();
    bool ordered = true;
    {
        const Unlocked unlocked;
        derl::cpu::squared_distances(rows, clients, parameters, threads, result);
        for (std::size_t i = 0; i < clients * clients; ++i) {
            ordered = ordered && !std::isnan(result[i]);
        }
    }
    if (!ordered || clients == 1) {
        refuse_not_finite(rows, updates);
    }
    return distances;
}

bool all_finite(const double* numbers, std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) {
        if (!std::isfinite(numbers[i])) {
            return false;
        }
    }
    return true;
}

py::array_t<double> norms(const py::array& updates, int threads) {
    const float* rows = checked<float>(updates, "updates", "float32[N, P]", 2);
    require_threads(threads);
    const auto clients = static_cast<std::size_t>(updates.shape(0));
    py::array_t<double> norms(updates.shape(0));
    double* result = norms.mutable_data();
    bool finite;
    {
        const Unlocked unlocked;
        derl::cpu::norms(rows, clients, static_cast<std::size_t>(updates.shape(1)), threads, result);
        finite = all_finite(result, clients);
    }
    if (!finite) {
        refuse_not_finite(rows, updates);
    }
    return norms;
}

py::tuple clip_norms(const py::array& updates, double limit, int threads) {
    require(limit > 0.0 && std::isfinite(limit),
            "limit: must be finite and above zero, is " + std::to_string(limit));
    const py::array_t<double> lengths = norms(updates, threads);
    const auto* rows = static_cast<const float*>(updates.data());
    const double* length = lengths.data();
    py::array_t<float> clipped({updates.shape(0), updates.shape(1)});
    float* result = clipped.mutable_data();
    {
        const Unlocked unlocked;
        derl::cpu::clip_norms(rows, length, limit, static_cast<std::size_t>(updates.shape(0)),
                              static_cast<std::size_t>(updates.shape(1)), threads, result);
    }
    return py::make_tuple(clipped, lengths);
}

py::array_t<float> geometric_median(const py::array& updates, const py::array& weights,
                                    const py::array& start, int iterations, double smoothing,
                                    int threads) {
    const IeeeFloats modes;  // of the numbers before and after the kernel, too
    const float* rows = checked<float>(updates, "updates", "float32[N, P]", 2);
    require_clients(updates);
    require_threads(threads);
    const std::vector<double> shares = checked_shares(weights, updates);
    const float* from = checked<float>(start, "start", "float32[P]", 1);
    require(start.shape(0) == updates.shape(1),
            "start: must have as many entries as updates has columns (" +
                std::to_string(updates.shape(1)) + "), has " + std::to_string(start.shape(0)));
    require(iterations >= 1, "iterations: must be at least 1, is " + std::to_string(iterations));
    require(smoothing >= 0.0 && std::isfinite(smoothing),
            "smoothing: must be a length, finite and not negative, is " + std::to_string(smoothing));
    const auto parameters = static_cast<std::size_t>(updates.shape(1));
    std::vector<double> centre(from, from + parameters);
    for (std::size_t i = 0; i < parameters; ++i) {
        require(std::isfinite(centre[i]),
                "start: every entry must be finite, entry " + std::to_string(i) + " is not");
    }
    bool finite;
    {
        const Unlocked unlocked;
        finite = derl::cpu::geometric_median(rows, shares.data(), shares.size(), parameters,
                                             {iterations, smoothing, threads}, centre.data());
    }
    if (!finite) {
        refuse_not_finite(rows, updates);
    }
    py::array_t<float> median(updates.shape(1));
    float* result = median.mutable_data();
    for (std::size_t i = 0; i < parameters; ++i) {
        result[i] = static_cast<float>(centre[i]);
    }
    return median;
}

}  // namespace

DERL_BINDINGS(aggregation, "How client updates are merged.") {
    module.def("weighted_mean", &weighted_mean, py::arg("updates"), py::arg("weights"),
               py::arg("threads") = 1,
               "updates float32[N, P], weights float64[N] -> float32[P]");
    module.def("coordinate_median", &coordinate_median, py::arg("updates"), py::arg("threads"));
    module.def("trimmed_mean", &trimmed_mean, py::arg("updates"), py::arg("trim"),
               py::arg("threads"));
    module.def("norms", &norms, py::arg("updates"), py::arg("threads"));
    module.def("clip_norms", &clip_norms, py::arg("updates"), py::arg("limit"), py::arg("threads"),
               "-> (clipped float32[N, P], norms float64[N])");
    module.def("geometric_median", &geometric_median, py::arg("updates"), py::arg("weights"),
               py::arg("start"), py::arg("iterations"), py::arg("smoothing"), py::arg("threads"),
               "smoothing 0: a share of the median distance from the start");
    module.def("squared_distances", &squared_distances, py::arg("updates"), py::arg("threads"));
}

}  // namespace derl::bindings
