"""From what a round brought in to the global model: the merge, trials of mixtures, the referee."""
