"""The daemon: where it is, whether it is fit and there, and calls to it."""
