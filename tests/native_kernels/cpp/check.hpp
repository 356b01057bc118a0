// A count of what failed, and levels to run on; no framework.
#pragma once

#include <cstdio>
#include <initializer_list>

#include "cpu/dispatch.hpp"

namespace derl::tests {

struct Counts {
    long checks = 0;
    long failures = 0;
};
inline Counts& counts() {
    static Counts all;
    return all;
}

#define DERL_CHECK(condition, ...)                                        \
    do {                                                                  \
        ++::derl::tests::counts().checks;                                 \
        if (!(condition) && ++::derl::tests::counts().failures <= 20) {   \
            std::printf("%s:%d: " #condition "\n  ", __FILE__, __LINE__); \
            std::printf(__VA_ARGS__);                                     \
            std::printf("\n");                                            \
        }                                                                 \
    } while (false)

// Calls run() with each level in force that this machine has; the best stays in force.
template <class Run>
void at_each_level(Run run) {
    const Level best = level_of_this_machine();
    for (const Level level : {Level::kGeneric, Level::kV2, Level::kAvx2, Level::kAvx512}) {
        if (level <= best && (level == Level::kGeneric) == (best == Level::kGeneric)) {
            force_level(name_of(level));
            run(level);
        }
    }
    force_level(name_of(best));
}

inline int report(const char* program) {
    std::printf("%s: %ld checks, %ld failed\n", program, counts().checks, counts().failures);
    return counts().failures == 0 && counts().checks > 0 ? 0 : 1;
}

}  // namespace derl::tests
