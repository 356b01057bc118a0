// Distances between updates and their norms, in the order of summation of cpu/distances.hpp and
// cpu/norms.hpp: blocks of 1024 columns, in each of them sixteen lanes, then the blocks in order.
//
// Sixteen neighbouring threads are the lanes; what each has goes through shared memory to one.
#include <derl/scalar.hpp>

#include "cpu/distances.hpp"
#include "cpu/norms.hpp"
#include "cuda/kernels.hpp"
#include "cuda/launch.cuh"

namespace derl::cuda {

namespace {

constexpr int kLanes = 16;
constexpr int kEdge = 4;                  // a thread has kEdge x kEdge pairs of rows,
constexpr int kTile = kEdge * 4;          // a block of threads kTile x kTile
constexpr int kPairs = kTile * kTile;     // as many as it has threads
#ifndef DERL_SCRATCH_BYTES  // tests take less, so that small arrays are cut up, too
#define DERL_SCRATCH_BYTES (std::size_t{64} << 20)
#endif

// As sum_lanes of cpu/simd: halves, quarters, pairs; lane l at x[l * stride].
template <class Real>
DERL_DEVICE Real sum_lanes_at(const Real* x, unsigned stride) {
    Real sums[kLanes];
    for (int lane = 0; lane < kLanes; ++lane) {
        sums[lane] = x[lane * stride];
    }
    for (int apart = kLanes / 2; apart >= 1; apart /= 2) {
        for (int lane = 0; lane < apart; ++lane) {
            sums[lane] = sums[lane] + sums[lane + apart];
        }
    }
    return sums[0];
}

struct Rows {
    const float* updates;
    std::size_t clients;
    std::size_t parameters;
};

// One lane's sums of squared differences of kEdge rows from `row` and kEdge from `other` on.
DERL_DEVICE void add_differences(const Rows& rows, std::size_t row, std::size_t other,
                                 std::size_t column, std::size_t end, float (*sums)[kEdge]) {
    for (; column < end; column += kLanes) {
        float mine[kEdge], theirs[kEdge];
        for (int i = 0; i < kEdge; ++i) {
            const bool is_row = row + i < rows.clients, is_other = other + i < rows.clients;
            mine[i] = is_row ? rows.updates[(row + i) * rows.parameters + column] : 0.0f;
            theirs[i] = is_other ? rows.updates[(other + i) * rows.parameters + column] : 0.0f;
        }
        for (int i = 0; i < kEdge; ++i) {
            for (int j = 0; j < kEdge; ++j) {
                const float apart = mine[i] - theirs[j];
                sums[i][j] = fma(apart, apart, sums[i][j]);
            }
        }
    }
}

// parts: float32[blocks, clients, clients], above the diagonal. One block of threads for each block
// of columns and tile of pairs.
DERL_KERNEL distance_parts_kernel(Rows rows, std::size_t first_block, std::size_t blocks,
                                  float* parts) {
    DERL_SHARED(float, lanes);  // [kLanes, kPairs]
    const std::size_t tiles = (rows.clients + kTile - 1) / kTile;
    const unsigned lane = threadIdx.x % kLanes, group = threadIdx.x / kLanes;
    for (std::size_t work = blockIdx.x; work < blocks * tiles * tiles; work += gridDim.x) {
        const std::size_t block = work / (tiles * tiles);
        const std::size_t row = work / tiles % tiles * kTile, other = work % tiles * kTile;
        if (other < row) {
            continue;  // all threads of the block together
        }
        const std::size_t begin = (first_block + block) * kDistanceBlock;
        const std::size_t end =
            begin + kDistanceBlock < rows.parameters ? begin + kDistanceBlock : rows.parameters;
        float sums[kEdge][kEdge] = {};
        add_differences(rows, row + group / 4 * kEdge, other + group % 4 * kEdge, begin + lane, end,
                        sums);
        for (int pair = 0; pair < kEdge * kEdge; ++pair) {
            lanes[lane * kPairs + group * kLanes + pair] = sums[pair / kEdge][pair % kEdge];
        }
        __syncthreads();
        // this thread's pair: number `lane` of those of `group`
        const std::size_t i = row + group / 4 * kEdge + lane / kEdge;
        const std::size_t j = other + group % 4 * kEdge + lane % kEdge;
        if (i < j && j < rows.clients) {
            parts[(block * rows.clients + i) * rows.clients + j] =
                sum_lanes_at(lanes + threadIdx.x, kPairs);
        }
        __syncthreads();  // before the next round writes
    }
}

DERL_KERNEL add_parts_kernel(const float* parts, std::size_t clients, std::size_t blocks,
                             bool is_first, double* distances) {
    const std::size_t count = clients * clients;
    for (std::size_t at = first_of_thread(); at < count; at += grid_stride()) {
        const std::size_t i = at / clients, j = at % clients;
        if (i > j) {
            continue;
        }
        double sum = is_first ? 0.0 : distances[at];
        for (std::size_t block = 0; i < j && block < blocks; ++block) {
            sum += static_cast<double>(parts[block * count + at]);
        }
        distances[at] = sum;
        distances[j * clients + i] = sum;
    }
}

// parts: float64[blocks, clients], the sum of squares of each row in each block of columns.
DERL_KERNEL square_parts_kernel(Rows rows, std::size_t blocks, double* parts) {
    DERL_SHARED(double, lanes);  // [kLanes, blockDim / kLanes]
    const unsigned groups = blockDim.x / kLanes;
    const unsigned lane = threadIdx.x % kLanes, group = threadIdx.x / kLanes;
    const std::size_t count = blocks * rows.clients;
    // all threads of a block go round equally often
    for (std::size_t first = static_cast<std::size_t>(blockIdx.x) * groups; first < count;
         first += static_cast<std::size_t>(gridDim.x) * groups) {
        const std::size_t item = first + group;
        double sum = 0.0;
        if (item < count) {
            const float* row = rows.updates + item % rows.clients * rows.parameters;
            const std::size_t begin = item / rows.clients * kNormBlock;
            const std::size_t end =
                begin + kNormBlock < rows.parameters ? begin + kNormBlock : rows.parameters;
            for (std::size_t column = begin + lane; column < end; column += kLanes) {
                const double x = static_cast<double>(row[column]);
                sum += x * x;
            }
        }
        lanes[lane * groups + group] = sum;
        __syncthreads();
        if (lane == 0 && item < count) {
            parts[item] = sum_lanes_at(lanes + group, groups);
        }
        __syncthreads();
    }
}

DERL_KERNEL norms_kernel(const double* parts, std::size_t clients, std::size_t blocks,
                         double* norms) {
    for (std::size_t row = first_of_thread(); row < clients; row += grid_stride()) {
        double sum = 0.0;
        for (std::size_t block = 0; block < blocks; ++block) {
            sum += parts[block * clients + row];
        }
        norms[row] = sqrt(sum);
    }
}

DERL_KERNEL clip_kernel(Rows rows, const double* norms, double limit, float* clipped) {
    const std::size_t count = rows.clients * rows.parameters;
    for (std::size_t at = first_of_thread(); at < count; at += grid_stride()) {
        const double norm = norms[at / rows.parameters];
        const double scale = norm > limit ? limit / norm : 1.0;
        clipped[at] = static_cast<float>(static_cast<double>(rows.updates[at]) * scale);
    }
}

std::size_t ceiling(std::size_t count, std::size_t unit) { return (count + unit - 1) / unit; }

int as_blocks(std::size_t count) {
    return static_cast<int>(count < kMostBlocks ? count : kMostBlocks);
}

constexpr std::size_t kDistanceBytes = kLanes * kPairs * sizeof(float);
constexpr std::size_t kSquareBytes = kThreads * sizeof(double);

}  // namespace

std::vector<KernelFacts> distances_facts() {
    return {facts_of("squared_distances", distance_parts_kernel, kPairs, kDistanceBytes),
            facts_of("norms", square_parts_kernel, kThreads, kSquareBytes),
            facts_of("clip_norms", clip_kernel, kThreads)};
}

void squared_distances(const float* updates, std::size_t clients, std::size_t parameters,
                       double* distances, cudaStream_t stream) {
    const Rows rows{updates, clients, parameters};
    const std::size_t blocks = ceiling(parameters, kDistanceBlock);
    const std::size_t bytes_of_block = clients * clients * sizeof(float);
    const std::size_t tiles = ceiling(clients, kTile);
    std::size_t at_once = DERL_SCRATCH_BYTES / bytes_of_block;
    at_once = at_once < 1 ? 1 : at_once > blocks ? blocks : at_once;
    const Scratch parts(at_once * bytes_of_block + 1, stream);
    std::size_t first = 0;
    do {
        const std::size_t some = blocks - first < at_once ? blocks - first : at_once;
        launch("squared_distances", distance_parts_kernel,
               Shape{as_blocks(some * tiles * tiles), kPairs, kDistanceBytes}, stream, rows, first,
               some, parts.as<float>());
        launch("squared_distances: sums", add_parts_kernel, shape_for(clients * clients), stream,
               parts.as<const float>(), clients, some, first == 0, distances);
        first += some;
    } while (first < blocks);
}

void clip_norms(const float* updates, double limit, std::size_t clients, std::size_t parameters,
                float* clipped, double* norms, cudaStream_t stream) {
    const Rows rows{updates, clients, parameters};
    const std::size_t blocks = ceiling(parameters, kNormBlock);
    const Scratch parts(blocks * clients * sizeof(double) + 1, stream);
    launch("norms", square_parts_kernel,
           Shape{as_blocks(ceiling(blocks * clients, kThreads / kLanes)), kThreads, kSquareBytes},
           stream, rows, blocks, parts.as<double>());
    launch("norms: sums", norms_kernel, shape_for(clients), stream, parts.as<const double>(),
           clients, blocks, norms);
    launch("clip_norms", clip_kernel, shape_for(clients * parameters), stream, rows,
           static_cast<const double*>(norms), limit, clipped);
}

}  // namespace derl::cuda
