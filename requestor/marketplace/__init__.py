"""Renting compute from strangers: ports, terms, what may be spent, whom to avoid.

Read next: `ports.py`. The one implementation that reaches a real market is in `golem/`.
"""
