"""Knowing that rented work was done: which items are done again, and what follows. Pure.

Read next: `audit_rates.py` (how often), `audit_draw.py` (which), `fingerprints.py` (who can be
compared), `disputes.py` (who is wrong), `provenance.py` (what is written down), `catching.py` (what
all that is worth).
"""
