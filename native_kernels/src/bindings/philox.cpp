// native_kernels._native.philox: random numbers as the kernels draw them, for tests.
#include <cstdint>

#include "bindings/array_arguments.hpp"
#include "cpu/philox.hpp"

namespace derl::bindings {

namespace {

const std::int32_t* checked_words(const py::array& array, const char* name) {
    const auto* data = checked<std::uint32_t>(array, name, "uint32[4, N]", 2);
    require(array.shape(0) == 4, std::string(name) + ": must be uint32[4, N], has shape " +
                                     shape_text(array));
    return reinterpret_cast<const std::int32_t*>(data);
}

template <class T>
py::array_t<T> four_rows(const py::array& like) {
    return py::array_t<T>({static_cast<py::ssize_t>(4), like.shape(1)});
}

py::array_t<std::uint32_t> words(const py::array& counters, std::uint64_t seed) {
    const std::int32_t* data = checked_words(counters, "counters");
    auto drawn = four_rows<std::uint32_t>(counters);
    DERL_AT_LEVEL(philox_words)(data, static_cast<std::size_t>(counters.shape(1)), seed,
                                reinterpret_cast<std::int32_t*>(drawn.mutable_data()));
    return drawn;
}

py::array_t<float> uniforms(const py::array& words) {
    const std::int32_t* data = checked_words(words, "words");
    auto numbers = four_rows<float>(words);
    DERL_AT_LEVEL(uniforms_of_words)(data, static_cast<std::size_t>(words.shape(1)),
                                     numbers.mutable_data());
    return numbers;
}

py::array_t<float> normals(const py::array& words) {
    const std::int32_t* data = checked_words(words, "words");
    auto numbers = four_rows<float>(words);
    DERL_AT_LEVEL(normals_of_words)(data, static_cast<std::size_t>(words.shape(1)),
                                    numbers.mutable_data());
    return numbers;
}

}  // namespace

DERL_BINDINGS(philox, "Philox4x32-10, at the processor level in force; words are uint32[4, N].") {
    module.def("words", &words, py::arg("counters"), py::arg("seed"));
    module.def("uniforms", &uniforms, py::arg("words"));
    module.def("normals", &normals, py::arg("words"));
}

}  // namespace derl::bindings
