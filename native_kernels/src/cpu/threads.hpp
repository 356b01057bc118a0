// A few threads for one object's calls. Which thread does which task never changes a result.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <thread>
#include <vector>

namespace derl {

class Workers {
public:
    // `threads` includes the caller; the others start with the first call that wants them.
    explicit Workers(int threads) : count_(threads) {}
    ~Workers();
    Workers(const Workers&) = delete;
    Workers& operator=(const Workers&) = delete;

    int count() const { return count_; }
    // work(task, worker) for every task below `tasks` (fewer than 2^16); workers are numbered from
    // 0, the caller, which does what the others have no time for.
    void run(int tasks, const std::function<void(int task, int worker)>& work);

private:
    void start();
    void take_tasks(int worker);

    int count_;
    bool has_started_ = false;
    std::vector<std::thread> threads_;
    const std::function<void(int, int)>* work_ = nullptr;
    std::atomic<bool> stops_{false};
    // round << 32 | tasks << 16 | next task: a thread that comes late takes nothing of another round
    std::atomic<std::uint64_t> ticket_{0};
    std::atomic<int> done_{0};
    std::atomic<std::uint32_t> round_{0};
};

}  // namespace derl
