"""Verifying an image file before anything of it is trusted, unpacked or run.

Read next: `VERIFYING.md`, `verifying.py` (the order of things), `content.py` (what is refused).
"""
