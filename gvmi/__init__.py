"""The provider image: how it is built, verified, pushed to Golem's registry, and booted.

Read next: `variants.py` (what an image holds), `building.py` (how it comes to be).
"""
