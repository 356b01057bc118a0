"""Array mathematics in C++, for the places where NumPy is slow or rounds as it likes.

Functions over plain arrays; nothing here knows of clients' identities, rounds or files. Each one
is defined in NumPy in :mod:`native_kernels.reference` and gives the same bits on every machine.
Read ``README.md`` next; ``CATALOGUE.md`` lists the kernels.
"""

try:
    from native_kernels import _native as _native
except ImportError as error:
    if "DERL_CPU_LEVEL" in str(error) or "x86-64-v2" in str(error):
        raise
    raise ImportError(
        "native_kernels._native is not built for this Python; "
        "fix: ./scripts/setup (or pip install -e .) in the repository"
    ) from error
