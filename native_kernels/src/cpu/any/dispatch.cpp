#include "cpu/dispatch.hpp"

#include <atomic>
#include <cstdlib>
#include <stdexcept>
#include <string>

namespace derl {

namespace {

constexpr Level kLevels[] = {Level::kGeneric, Level::kV2, Level::kAvx2, Level::kAvx512};

Level parse(const std::string& name) {
    for (const Level level : kLevels) {
        if (name == name_of(level)) {
            if (level > level_of_this_machine() ||
                (level == Level::kGeneric) != (level_of_this_machine() == Level::kGeneric)) {
                throw std::invalid_argument("CPU level " + name + " is not to be had here; this "
                                            "machine has " + name_of(level_of_this_machine()));
            }
            return level;
        }
    }
    throw std::invalid_argument("CPU level " + name + " is unknown; known: generic, v2, avx2, avx512");
}

void require_baseline() {
#if DERL_HAS_X86_LEVELS
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("ssse3") || !__builtin_cpu_supports("sse4.2") ||
        !__builtin_cpu_supports("popcnt")) {
        throw std::runtime_error("the kernels need an x86-64-v2 processor (SSE4.2, as all have "
                                 "since 2011); this one is older");
    }
#endif
}

Level initial() {
    require_baseline();
    const char* wanted = std::getenv("DERL_CPU_LEVEL");
    if (wanted == nullptr || *wanted == '\0') {
        return level_of_this_machine();
    }
    try {
        return parse(wanted);
    } catch (const std::invalid_argument& error) {
        throw std::invalid_argument(std::string("DERL_CPU_LEVEL: ") + error.what() +
                                    "; fix: unset it");
    }
}

std::atomic<Level>& in_force() {
    static std::atomic<Level> level{initial()};
    return level;
}

}  // namespace

const char* name_of(Level level) {
    switch (level) {
        case Level::kGeneric: return "generic";
        case Level::kV2: return "v2";
        case Level::kAvx2: return "avx2";
        case Level::kAvx512: return "avx512";
    }
    return "unknown";
}

Level level_of_this_machine() {
#if DERL_HAS_X86_LEVELS
    __builtin_cpu_init();
    // these look at what the operating system saves, too
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) {
        return Level::kV2;
    }
    const bool has_avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                            __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    return has_avx512 ? Level::kAvx512 : Level::kAvx2;
#else
    return Level::kGeneric;
#endif
}

Level level_in_force() { return in_force().load(std::memory_order_relaxed); }

void force_level(const char* name) { in_force().store(parse(name)); }

}  // namespace derl
