"""Verifying an image file before anything of it is trusted, unpacked or run.

Read next: `verifying.py` (what is looked at, in which order), `content.py` (what is refused).
"""
