// For libFuzzer: clang++ -fsanitize=fuzzer,address,undefined. test_codecs.cpp does the same with
// mutations of its own.
#include "decode_anything.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (!derl::tests::decode_anything(data, size)) {
        __builtin_trap();
    }
    return 0;
}
