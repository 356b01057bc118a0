"""A session with the market: engine, providers at work, their leases, and its end.

Read next: `rental.py`.
"""
