// Weighted mean of one column: one parameter over all clients.
//
//   mean = (double) 0 + share[0] * x[0] + share[1] * x[1] + ...      rounded to float at the end
//
// with share[n] = weight[n] / (weight[0] + weight[1] + ...). Every product and every sum is
// rounded to double, in client order, so the result does not depend on how columns are split
// over loops, threads or devices. Dividing the weights first keeps tiny and huge weights exact.
#pragma once

#include <derl/host_device.hpp>

namespace derl {

template <class Value, class Accumulator>
struct WeightedMean {
    Accumulator sum{0};

    DERL_HOST_DEVICE void add(Value value, Accumulator share) {
        sum += share * static_cast<Accumulator>(value);
    }

    DERL_HOST_DEVICE Value result() const { return static_cast<Value>(sum); }
};

}  // namespace derl
