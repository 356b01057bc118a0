"""What a run will cost and how long it will take, said before it begins; and how far off that was.

`simulation.py` plays the run's own work queue over providers of given paces, `quote.py` makes a
range of it, `knowledge.py` says where the paces come from, `benchmark.py` measures them.
"""
