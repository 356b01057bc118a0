"""Studies: many runs of the real training loop on a virtual market, and what they come to."""
