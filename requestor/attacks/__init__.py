"""What liars do, to prove that merging, screening and audits hold: a library of attacks.

`vectors.py` has the mathematics of made-up updates; `catalogue.py` every attack by name with what
it is and where it comes from; `liar.py` carries one out on orders and results; `lying_worker.py`
is a `derl-worker` that lies, for mock fleets. Nothing here is used by a run that trains.
"""
