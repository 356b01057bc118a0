// Mean, population variance and count of one column, merged pair by pair.
//
// Chan, Golub, LeVeque (1979), in the order of operations of Stable-Baselines3's
// RunningMeanStd.update_from_moments, whose results it therefore equals bit for bit.
#pragma once

#include <derl/host_device.hpp>

namespace derl {

template <class Real>
struct Moments {
    Real mean{0};
    Real variance{0};
    Real count{0};

    DERL_HOST_DEVICE void merge(const Moments& other) {
        if (other.count == 0) {
            return;
        }
        if (count == 0) {
            *this = other;
            return;
        }
        const Real total = count + other.count;
        const Real delta = other.mean - mean;
        const Real squares =
            variance * count + other.variance * other.count + delta * delta * count * other.count / total;
        mean = mean + delta * other.count / total;
        variance = squares / total;
        count = total;
    }
};

}  // namespace derl
