"""The provider image: how it is built, verified, pushed to Golem's registry, and booted.

Read next: `variants.py` (what an image is), `packages/purposes.py` (what it holds),
`assembly/building.py` (how it comes to be).
"""
