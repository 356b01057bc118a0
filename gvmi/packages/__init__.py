"""Packages that images are made of: chosen, locked, fetched, unpacked; start with `purposes.py`."""
