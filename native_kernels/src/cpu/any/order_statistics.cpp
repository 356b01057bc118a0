#include "cpu/order_statistics.hpp"

#include <algorithm>
#include <atomic>
#include <vector>

#include "cpu/any/aligned_floats.hpp"
#include "cpu/any/parallel.hpp"

namespace derl::cpu {

namespace {

using Wires = std::vector<std::uint16_t>;
// a thread must have some 0.1 ms of work to be worth its start
constexpr std::size_t kEntriesPerThread = 1 << 18;

class Planner {
public:
    Planner(std::size_t rows, std::size_t first, std::size_t last) {
        plan_.rows = static_cast<std::uint32_t>(rows);
        plan_.first = static_cast<std::uint32_t>(first);
        plan_.last = static_cast<std::uint32_t>(last);
        const std::size_t cut = first + rows - last;
        if (rows <= kLargestGroup) {
            wires_ = sorted(0, rows);
            plan_.lower = plan_.rows;
        } else {
            wires_ = sorted(0, rows - rows / 2);
            const Wires upper = sorted(rows - rows / 2, rows);
            plan_.lower = static_cast<std::uint32_t>(wires_.size());
            if (last - first > 2 && cut > upper.size()) {
                wires_ = merged(wires_, upper);
                plan_.lower = plan_.rows;
                prune();
            } else {
                wires_.insert(wires_.end(), upper.begin(), upper.end());
            }
        }
        plan_.groups = groups_.data();
        plan_.group_count = static_cast<std::uint32_t>(groups_.size());
        plan_.comparators = comparators_.data();
        plan_.comparator_count = static_cast<std::uint32_t>(comparators_.size());
        plan_.wires = wires_.data();
    }

    const SelectionPlan& plan() const { return plan_; }

private:
    Wires sorted(std::size_t begin, std::size_t end) {
        if (end - begin <= kLargestGroup) {
            groups_.push_back(static_cast<std::uint8_t>(end - begin));
            Wires wires;
            for (std::size_t row = begin; row < end; ++row) {
                wires.push_back(static_cast<std::uint16_t>(row));
            }
            return wires;
        }
        const std::size_t middle = end - (end - begin) / 2;
        const Wires lower = sorted(begin, middle);
        return merged(lower, sorted(middle, end));
    }

    // Batcher's odd-even merge of two ascending sequences of any lengths (Knuth, 5.3.4).
    Wires merged(const Wires& x, const Wires& y) {
        if (x.empty() || y.empty()) {
            return x.empty() ? y : x;
        }
        if (x.size() == 1 && y.size() == 1) {
            comparators_.push_back({x[0], y[0]});
            return {x[0], y[0]};
        }
        const Wires odd = merged(every_other(x, 0), every_other(y, 0));
        const Wires even = merged(every_other(x, 1), every_other(y, 1));
        Wires all{odd[0]};
        for (std::size_t i = 1; i < odd.size() || i <= even.size(); ++i) {
            if (i < odd.size() && i <= even.size()) {
                comparators_.push_back({even[i - 1], odd[i]});
            }
            if (i <= even.size()) {
                all.push_back(even[i - 1]);
            }
            if (i < odd.size()) {
                all.push_back(odd[i]);
            }
        }
        return all;
    }

    static Wires every_other(const Wires& wires, std::size_t from) {
        Wires some;
        for (std::size_t i = from; i < wires.size(); i += 2) {
            some.push_back(wires[i]);
        }
        return some;
    }

    // Drops comparators that no kept order statistic depends on.
    void prune() {
        std::vector<bool> needed(plan_.rows);
        for (std::size_t place = plan_.first; place < plan_.last; ++place) {
            needed[wires_[place]] = true;
        }
        std::vector<Comparator> kept;
        for (auto pair = comparators_.rbegin(); pair != comparators_.rend(); ++pair) {
            if (needed[pair->low] || needed[pair->high]) {
                needed[pair->low] = needed[pair->high] = true;
                kept.push_back(*pair);
            }
        }
        comparators_.assign(kept.rbegin(), kept.rend());
    }

    SelectionPlan plan_{};
    std::vector<std::uint8_t> groups_;
    std::vector<Comparator> comparators_;
    Wires wires_;
};

}  // namespace

bool mean_of_order_statistics(const float* updates, std::size_t rows, std::size_t parameters,
                              std::size_t first, std::size_t last, int threads, float* mean) {
    const Planner planner(rows, first, last);
    const auto select = DERL_AT_LEVEL(select_columns);
    std::atomic<bool> ordered{true};
    const std::size_t grain =
        std::max<std::size_t>(1, kEntriesPerThread / rows / kBlockColumns) * kBlockColumns;
    over_ranges(threads, parameters, grain, [&](std::size_t, std::size_t begin, std::size_t end) {
        AlignedFloats block(rows * kBlockColumns);
        if (!select(planner.plan(), updates, parameters, begin, end, block.data(), mean)) {
            ordered = false;
        }
    });
    return ordered;
}

}  // namespace derl::cpu
