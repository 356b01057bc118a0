"""How an image gets to a registry, by unmodified gvmkit-build; start with `pushing.py`."""
