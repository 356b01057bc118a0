// native_kernels._native.codecs: updates to bytes and back.
#include <cstdint>
#include <string>

#include "bindings/array_arguments.hpp"
#include "cpu/codecs.hpp"

namespace derl::bindings {

namespace {

using codecs::Layout;

Layout checked_layout(int kind, std::size_t count, std::size_t kept) {
    require(kind >= 1 && kind <= 4, "kind: must be 1 to 4, is " + std::to_string(kind));
    require(count <= kMaxElements, "count: must be at most 2^30, is " + std::to_string(count));
    const auto codec = static_cast<CodecKind>(kind);
    const bool fits = codec == CodecKind::kTopK ? kept <= count : kept == 0;
    require(fits, "kept: must be at most count, and 0 where all are kept, is " +
                      std::to_string(kept));
    return {codec, count, kept};
}

const float* checked_elements(const py::array& x, const char* name) {
    const float* elements = checked<float>(x, name, "float32[P]", 1);
    const auto count = static_cast<std::size_t>(x.shape(0));
    const std::size_t unfit = DERL_AT_LEVEL(first_unfit)(elements, count);
    require(unfit == count, std::string(name) + ": every entry must be finite and within 1e30, " +
                                "entry " + std::to_string(unfit) + " is " +
                                (unfit == count ? "" : std::to_string(elements[unfit])));
    return elements;
}

py::bytes encode(const py::array& update, int kind, std::size_t kept, bool is_stochastic,
                 std::uint64_t seed) {
    const float* x = checked_elements(update, "update");
    const Layout layout = checked_layout(kind, static_cast<std::size_t>(update.shape(0)), kept);
    std::string bytes(codecs::longest(layout), '\0');
    {
        const Unlocked unlocked;
        bytes.resize(codecs::encode(layout, x, {is_stochastic, seed},
                                    reinterpret_cast<std::uint8_t*>(bytes.data())));
    }
    return py::bytes(bytes);
}

py::array_t<float> decode(const py::bytes& payload, int kind, std::size_t count,
                          std::size_t kept) {
    const Layout layout = checked_layout(kind, count, kept);
    char* bytes = nullptr;
    py::ssize_t size = 0;
    if (PyBytes_AsStringAndSize(payload.ptr(), &bytes, &size) != 0) {
        throw py::error_already_set();
    }
    const auto length = static_cast<std::size_t>(size);
    require(length >= codecs::shortest(layout) && length <= codecs::longest(layout),
            "payload: has " + std::to_string(length) + " bytes, must have " +
                std::to_string(codecs::shortest(layout)) + " to " +
                std::to_string(codecs::longest(layout)));
    py::array_t<float> update(static_cast<py::ssize_t>(count));
    float* x = update.mutable_data();
    codecs::Flaw flaw = codecs::Flaw::kNone;
    {
        const Unlocked unlocked;
        flaw = codecs::decode(layout, reinterpret_cast<const std::uint8_t*>(bytes), length, x);
    }
    require(flaw == codecs::Flaw::kNone, std::string("payload: ") + codecs::describe(flaw));
    return update;
}

py::tuple sizes(int kind, std::size_t count, std::size_t kept) {
    const Layout layout = checked_layout(kind, count, kept);
    return py::make_tuple(codecs::shortest(layout), codecs::longest(layout));
}

py::array_t<std::uint32_t> largest(const py::array& update, std::size_t kept) {
    const float* x = checked_elements(update, "update");
    const auto count = static_cast<std::size_t>(update.shape(0));
    const Layout layout = checked_layout(4, count, kept);
    py::array_t<std::uint32_t> indices(static_cast<py::ssize_t>(kept));
    codecs::largest_elements(x, layout.count, layout.kept, indices.mutable_data());
    return indices;
}

py::array_t<std::uint16_t> to_halves(const py::array& x) {
    const float* numbers = checked<float>(x, "x", "float32[N]", 1);
    py::array_t<std::uint16_t> halves(x.shape(0));
    DERL_AT_LEVEL(floats_to_halves)(numbers, static_cast<std::size_t>(x.shape(0)),
                                    halves.mutable_data());
    return halves;
}

py::array_t<float> from_halves(const py::array& halves) {
    const std::uint16_t* bits = checked<std::uint16_t>(halves, "halves", "uint16[N]", 1);
    py::array_t<float> x(halves.shape(0));
    DERL_AT_LEVEL(halves_to_floats)(bits, static_cast<std::size_t>(halves.shape(0)),
                                    x.mutable_data());
    return x;
}

}  // namespace

DERL_BINDINGS(codecs, "Updates float32[P] as bytes; kind: 1 fp16, 2 int8, 3 int4, 4 top-k.") {
    module.def("encode", &encode, py::arg("update"), py::arg("kind"), py::arg("kept"),
               py::arg("is_stochastic"), py::arg("seed"));
    module.def("decode", &decode, py::arg("payload"), py::arg("kind"), py::arg("count"),
               py::arg("kept"));
    module.def("sizes", &sizes, py::arg("kind"), py::arg("count"), py::arg("kept"),
               "the least and the greatest number of bytes of a payload");
    module.def("largest", &largest, py::arg("update"), py::arg("kept"));
    module.def("to_halves", &to_halves, py::arg("x"));
    module.def("from_halves", &from_halves, py::arg("halves"));
}

}  // namespace derl::bindings
