#include "cpu/norms.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

#include "cpu/any/parallel.hpp"

namespace derl::cpu {

namespace {

// Calls work(block number, block) for the blocks of columns, on so many threads.
template <class Work>
void over_blocks(const float* updates, std::size_t rows, std::size_t parameters, int threads,
                 Work work) {
    over_ranges(threads, parameters, kNormBlock,
                [&](std::size_t, std::size_t begin, std::size_t end) {
                    for (std::size_t at = begin; at < end; at += kNormBlock) {
                        const std::size_t width = std::min<std::size_t>(kNormBlock, end - at);
                        work(at / kNormBlock, NormBlock{updates + at, rows, parameters, width});
                    }
                });
}

// Sums of squares by block, [blocks, rows], added up in the order of the blocks.
class Squares {
public:
    Squares(std::size_t rows, std::size_t parameters)
        : rows_(rows), parts_((parameters + kNormBlock - 1) / kNormBlock * rows) {}

    double* of_block(std::size_t block) { return parts_.data() + block * rows_; }

    void lengths(double* lengths) const {
        std::fill(lengths, lengths + rows_, 0.0);
        for (std::size_t i = 0; i < parts_.size(); ++i) {
            lengths[i % rows_] += parts_[i];
        }
        for (std::size_t row = 0; row < rows_; ++row) {
            lengths[row] = std::sqrt(lengths[row]);
        }
    }

private:
    std::size_t rows_;
    std::vector<double> parts_;
};

bool all_finite(const std::vector<double>& numbers) {
    return std::all_of(numbers.begin(), numbers.end(), [](double x) { return std::isfinite(x); });
}

double smoothing_of(const GeometricMedianSettings& settings, std::vector<double> distances) {
    if (settings.smoothing > 0.0) {
        return settings.smoothing;
    }
    const auto middle = distances.begin() + static_cast<std::ptrdiff_t>((distances.size() - 1) / 2);
    std::nth_element(distances.begin(), middle, distances.end());
    return std::max(kRelativeSmoothing * *middle, kLeastSmoothing);
}

}  // namespace

void norms(const float* updates, std::size_t rows, std::size_t parameters, int threads,
           double* norms) {
    const std::vector<double> origin(kNormBlock);
    Squares squares(rows, parameters);
    over_blocks(updates, rows, parameters, threads, [&](std::size_t number, const NormBlock& block) {
        DERL_AT_LEVEL(squares_about)(block, origin.data(), squares.of_block(number));
    });
    squares.lengths(norms);
}

void clip_norms(const float* updates, const double* norms, double limit, std::size_t rows,
                std::size_t parameters, int threads, float* clipped) {
    over_ranges(threads, rows, 1, [&](std::size_t, std::size_t begin, std::size_t end) {
        for (std::size_t row = begin; row < end; ++row) {
            const double scale = norms[row] > limit ? limit / norms[row] : 1.0;
            DERL_AT_LEVEL(scale_row)
            (updates + row * parameters, scale, parameters, clipped + row * parameters);
        }
    });
}

bool geometric_median(const float* updates, const double* shares, std::size_t rows,
                      std::size_t parameters, const GeometricMedianSettings& settings,
                      double* centre) {
    Squares squares(rows, parameters);
    std::vector<double> distances(rows), pulls(rows);
    const auto measure = [&](bool moves, bool measures) {
        over_blocks(updates, rows, parameters, settings.threads,
                    [&](std::size_t number, const NormBlock& block) {
                        double* middle = centre + number * kNormBlock;
                        if (moves) {
                            DERL_AT_LEVEL(weighted_centre)(block, pulls.data(), middle);
                        }
                        if (measures) {
                            DERL_AT_LEVEL(squares_about)(block, middle, squares.of_block(number));
                        }
                    });
        if (measures) {
            squares.lengths(distances.data());
        }
        return all_finite(distances);
    };
    if (!measure(false, true)) {
        return false;
    }
    const double smoothing = smoothing_of(settings, distances);
    for (int iteration = 0; iteration < settings.iterations; ++iteration) {
        double sum = 0.0;
        for (std::size_t row = 0; row < rows; ++row) {
            pulls[row] = shares[row] / std::max(distances[row], smoothing);
            sum += pulls[row];
        }
        for (double& pull : pulls) {
            pull /= sum;
        }
        if (!measure(true, iteration + 1 < settings.iterations)) {
            return false;
        }
    }
    return true;
}

}  // namespace derl::cpu
