#include "cpu/threads.hpp"

#include <system_error>

namespace derl {

namespace {

// The next piece of work comes within microseconds or not at all for long.
constexpr int kSpins = 4000;

void wait_while(std::atomic<std::uint32_t>& number, std::uint32_t old) {
    for (int i = 0; i < kSpins; ++i) {
        if (number.load(std::memory_order_acquire) != old) {
            return;
        }
    }
    number.wait(old, std::memory_order_acquire);
}

}  // namespace

Workers::~Workers() {
    // a thread late for the last round may look at it just now
    stops_.store(true, std::memory_order_relaxed);
    round_.fetch_add(1, std::memory_order_release);
    round_.notify_all();
    for (std::thread& thread : threads_) {
        thread.join();
    }
}

void Workers::run(int tasks, const std::function<void(int task, int worker)>& work) {
    if (count_ > 1 && tasks > 1 && !has_started_) {
        has_started_ = true;
        start();
    }
    if (threads_.empty() || tasks == 1) {
        for (int task = 0; task < tasks; ++task) {
            work(task, 0);
        }
        return;
    }
    work_ = &work;
    done_.store(0, std::memory_order_relaxed);
    const std::uint64_t round = round_.load(std::memory_order_relaxed) + std::uint64_t{1};
    ticket_.store(round << 32 | static_cast<std::uint64_t>(tasks) << 16, std::memory_order_release);
    round_.store(static_cast<std::uint32_t>(round), std::memory_order_release);
    round_.notify_all();
    take_tasks(0);
    for (int spins = 0; done_.load(std::memory_order_acquire) != tasks; ++spins) {
        if (spins >= kSpins) {
            std::this_thread::yield();
        }
    }
}

void Workers::start() {
    for (int worker = 1; worker < count_; ++worker) {
        const auto serve = [this, worker, seen = round_.load()]() mutable {
            for (;;) {
                wait_while(round_, seen);
                seen = round_.load(std::memory_order_acquire);
                if (stops_.load(std::memory_order_relaxed)) {
                    return;
                }
                take_tasks(worker);
            }
        };
        try {
            threads_.emplace_back(serve);
        } catch (const std::system_error&) {
            return;  // the machine has no more threads to give: fewer do the work
        }
    }
}

void Workers::take_tasks(int worker) {
    std::uint64_t ticket = ticket_.load(std::memory_order_acquire);
    for (;;) {
        const auto task = static_cast<int>(ticket & 0xffff);
        if (task >= static_cast<int>(ticket >> 16 & 0xffff)) {
            return;
        }
        if (ticket_.compare_exchange_weak(ticket, ticket + 1, std::memory_order_acq_rel,
                                          std::memory_order_acquire)) {
            (*work_)(task, worker);
            done_.fetch_add(1, std::memory_order_release);
            ticket = ticket_.load(std::memory_order_acquire);
        }
    }
}

}  // namespace derl
