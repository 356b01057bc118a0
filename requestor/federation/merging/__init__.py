"""How the updates of a round become the next global model: pure, in client order.

Read `protocol.py` first, then `merger.py`; `MERGING.md` lists the rules.
"""
