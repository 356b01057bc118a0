#include "cuda/kernels.hpp"

namespace derl::cuda {

std::vector<KernelFacts> all_facts() {
    std::vector<KernelFacts> all;
    for (const auto& facts : {advantages_facts(), aggregation_facts(), codecs_facts(), distances_facts(),
                              environments_facts(), rollout_facts()}) {
        all.insert(all.end(), facts.begin(), facts.end());
    }
    return all;
}

}  // namespace derl::cuda
