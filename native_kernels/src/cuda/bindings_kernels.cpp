// Kernels over arrays as Python functions over addresses.
#include "cuda/bindings.hpp"

namespace derl::cuda {

namespace {

void bind_aggregation(py::module_& module) {
    module.def(
        "weighted_mean",
        [](Address updates, const py::array_t<double>& shares, std::size_t parameters, Address mean,
           const Place& place) {
            const double* share = shares.data();
            const auto clients = static_cast<std::size_t>(shares.size());
            enqueue(place, [&](cudaStream_t stream) {
                weighted_mean(at<const float>(updates), share, clients, parameters, at<float>(mean),
                              stream);
            });
        },
        py::arg("updates"), py::arg("shares"), py::arg("parameters"), py::arg("mean"),
        py::arg("place"));
    module.attr("MOST_SORTED_CLIENTS") = kMostSortedClients;
    module.def(
        "mean_of_order_statistics",
        [](Address updates, std::size_t clients, std::size_t parameters, std::size_t first,
           std::size_t last, Address mean, const Place& place) {
            enqueue(place, [&](cudaStream_t stream) {
                mean_of_order_statistics(at<const float>(updates), clients, parameters, first, last,
                                         at<float>(mean), stream);
            });
        },
        py::arg("updates"), py::arg("clients"), py::arg("parameters"), py::arg("first"),
        py::arg("last"), py::arg("mean"), py::arg("place"));
    module.def(
        "squared_distances",
        [](Address updates, std::size_t clients, std::size_t parameters, Address distances,
           const Place& place) {
            enqueue(place, [&](cudaStream_t stream) {
                squared_distances(at<const float>(updates), clients, parameters,
                                  at<double>(distances), stream);
            });
        },
        py::arg("updates"), py::arg("clients"), py::arg("parameters"), py::arg("distances"),
        py::arg("place"));
    module.def(
        "clip_norms",
        [](Address updates, double limit, std::size_t clients, std::size_t parameters,
           Address clipped, Address norms, const Place& place) {
            enqueue(place, [&](cudaStream_t stream) {
                clip_norms(at<const float>(updates), limit, clients, parameters,
                           at<float>(clipped), at<double>(norms), stream);
            });
        },
        py::arg("updates"), py::arg("limit"), py::arg("clients"), py::arg("parameters"),
        py::arg("clipped"), py::arg("norms"), py::arg("place"));
}

// A trace as Python hands it over.
struct Trace {
    RewardTrace trace;

    Trace(Address rewards, Address episode_starts, Address last_values, Address last_dones,
          std::size_t steps, std::size_t environments)
        : trace{at<const float>(rewards),     at<const std::uint8_t>(episode_starts),
                at<const float>(last_values), at<const std::uint8_t>(last_dones),
                steps,                        environments} {}
};

void bind_advantages(py::module_& module) {
    py::class_<Trace>(module, "Trace", py::module_local())
        .def(py::init<Address, Address, Address, Address, std::size_t, std::size_t>(),
             py::arg("rewards"), py::arg("episode_starts"), py::arg("last_values"),
             py::arg("last_dones"), py::arg("steps"), py::arg("environments"));
    module.def(
        "generalized_advantages",
        [](const Trace& trace, Address values, double gamma, double gae_lambda, Address advantages,
           Address returns, const Place& place) {
            enqueue(place, [&](cudaStream_t stream) {
                generalized_advantages(trace.trace, at<const float>(values), gamma, gae_lambda,
                                       at<float>(advantages), at<float>(returns), stream);
            });
        },
        py::arg("trace"), py::arg("values"), py::arg("gamma"), py::arg("gae_lambda"),
        py::arg("advantages"), py::arg("returns"), py::arg("place"));
    module.def(
        "discounted_returns",
        [](const Trace& trace, double gamma, Address returns, const Place& place) {
            enqueue(place, [&](cudaStream_t stream) {
                discounted_returns(trace.trace, gamma, at<float>(returns), stream);
            });
        },
        py::arg("trace"), py::arg("gamma"), py::arg("returns"), py::arg("place"));
}

void bind_codecs(py::module_& module) {
    module.def(
        "encode",
        [](int kind, Address x, std::size_t count, bool is_stochastic, std::uint64_t seed,
           Address bytes, const Place& place) {
            enqueue(place, [&](cudaStream_t stream) {
                encode(static_cast<CodecKind>(kind), at<const float>(x), count,
                       {is_stochastic, seed}, at<std::uint8_t>(bytes), stream);
            });
        },
        py::arg("kind"), py::arg("x"), py::arg("count"), py::arg("is_stochastic"), py::arg("seed"),
        py::arg("bytes"), py::arg("place"));
    module.def(
        "decode",
        [](int kind, Address bytes, std::size_t count, Address x, const Place& place) {
            enqueue(place, [&](cudaStream_t stream) {
                decode(static_cast<CodecKind>(kind), at<const std::uint8_t>(bytes), count,
                       at<float>(x), stream);
            });
        },
        py::arg("kind"), py::arg("bytes"), py::arg("count"), py::arg("x"), py::arg("place"));
}

}  // namespace

void bind_kernels(py::module_& module) {
    bind_aggregation(module);
    bind_advantages(module);
    bind_codecs(module);
}

}  // namespace derl::cuda
