"""What can go wrong on the way to a CUDA device."""

__all__ = ["KernelError", "UnavailableError"]


class KernelError(RuntimeError):
    """A call of CUDA failed; the text has CUDA's name for it and the file and line that met it."""


class UnavailableError(RuntimeError):
    """CUDA was asked for where it cannot be had; the text is ``status()``."""
