// The processor's floating-point modes, as IEEE 754 starts them, while a kernel runs.
//
// A library in the same process may have changed them for its thread (torch.set_flush_denormal, a
// shared object linked with -ffast-math), which would give that process bits of its own.
#pragma once

#include <cstdint>

namespace derl {

class IeeeFloats {
public:
    IeeeFloats() : before_(read()) {
        if (modes(before_) != kDefault) {
            write(kDefault);
        }
    }
    ~IeeeFloats() {
        if (modes(before_) != kDefault) {
            write(before_);
        }
    }
    IeeeFloats(const IeeeFloats&) = delete;
    IeeeFloats& operator=(const IeeeFloats&) = delete;

private:
#if defined(__x86_64__)
    static constexpr std::uint64_t kDefault = 0x1f80;  // to nearest, subnormals kept, no traps
    static std::uint64_t modes(std::uint64_t state) { return state & ~std::uint64_t{0x3f}; }
    static std::uint64_t read() { return __builtin_ia32_stmxcsr(); }
    static void write(std::uint64_t x) {
        __builtin_ia32_ldmxcsr(static_cast<unsigned>(x));
    }
#elif defined(__aarch64__)
    static constexpr std::uint64_t kDefault = 0;
    static std::uint64_t modes(std::uint64_t state) { return state; }
    static std::uint64_t read() {
        std::uint64_t x;
        __asm__ volatile("mrs %0, fpcr" : "=r"(x)::"memory");
        return x;
    }
    static void write(std::uint64_t x) { __asm__ volatile("msr fpcr, %0" ::"r"(x) : "memory"); }
#else
    static constexpr std::uint64_t kDefault = 0;
    static std::uint64_t modes(std::uint64_t) { return kDefault; }
    static std::uint64_t read() { return kDefault; }
    static void write(std::uint64_t) {}
#endif
    std::uint64_t before_;
};

}  // namespace derl
