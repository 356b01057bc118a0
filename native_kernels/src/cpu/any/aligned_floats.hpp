// Scratch memory that starts at a cache line; its contents are not set.
#pragma once

#include <cstddef>
#include <memory>
#include <new>

namespace derl::cpu {

class AlignedFloats {
public:
    explicit AlignedFloats(std::size_t count)
        : floats_(static_cast<float*>(::operator new(count * sizeof(float), kLine))) {}
    float* data() { return floats_.get(); }

private:
    static constexpr std::align_val_t kLine{64};
    struct Free {
        void operator()(float* floats) const { ::operator delete(floats, kLine); }
    };
    std::unique_ptr<float, Free> floats_;
};

}  // namespace derl::cpu
