// Which processor level's kernels run: the best that this machine has, or a lower one by request.
//
// Files in src/cpu/levels are compiled once per level, each copy in the namespace of its level.
// They use no templates or inline functions of the standard library: the linker keeps one copy of
// such a function for all levels. A function that is in all levels is called as
//     DERL_AT_LEVEL(gae)(arguments...)
// and runs with the floating-point modes of IEEE 754, whatever its thread has.
#pragma once

#include "cpu/float_environment.hpp"

// DERL_GENERIC_ONLY (CMake -DDERL_GENERIC=ON) builds an x86 processor the code of all others.
#if defined(__x86_64__) && !defined(DERL_GENERIC_ONLY)
#define DERL_HAS_X86_LEVELS 1
#else
#define DERL_HAS_X86_LEVELS 0
#endif

namespace derl {

enum class Level { kGeneric, kV2, kAvx2, kAvx512 };

const char* name_of(Level level);
// The best that this processor can execute.
Level level_of_this_machine();
// What runs: the machine's, unless DERL_CPU_LEVEL or force_level says less. The first call throws
// where DERL_CPU_LEVEL is wrong or the processor is older than x86-64-v2.
Level level_in_force();
// Throws std::invalid_argument for a name that is unknown or beyond this machine.
void force_level(const char* name);

template <class Result, class... Arguments>
class AtLevel {
public:
    constexpr explicit AtLevel(Result (*function)(Arguments...)) : function_(function) {}
    Result operator()(Arguments... arguments) const {
        const IeeeFloats modes;
        return function_(static_cast<Arguments>(arguments)...);
    }

private:
    Result (*function_)(Arguments...);
};

#if DERL_HAS_X86_LEVELS
#define DERL_DECLARE_AT_LEVELS(...) \
    namespace v2 {                  \
    __VA_ARGS__                     \
    }                               \
    namespace avx2 {                \
    __VA_ARGS__                     \
    }                               \
    namespace avx512 {              \
    __VA_ARGS__                     \
    }
#define DERL_AT_LEVEL(function)                                                        \
    ::derl::AtLevel(::derl::level_in_force() == ::derl::Level::kAvx512                 \
                        ? &::derl::avx512::function                                    \
                    : ::derl::level_in_force() == ::derl::Level::kAvx2                 \
                        ? &::derl::avx2::function                                      \
                        : &::derl::v2::function)
#else
#define DERL_DECLARE_AT_LEVELS(...) \
    namespace generic {             \
    __VA_ARGS__                     \
    }
#define DERL_AT_LEVEL(function) ::derl::AtLevel(&::derl::generic::function)
#endif

}  // namespace derl
