"""A local Golem network on the real yagna: its daemon, a chain, and our simulated providers."""
