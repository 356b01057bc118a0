"""`derl-image lock`: the newest fitting packages become the locked ones."""

from __future__ import annotations

import rich_click as click

from gvmi.packages.locking import lock_debian, lock_python
from gvmi.packages.purposes import DEBIAN_PURPOSES, PYTHON_PURPOSES

_PURPOSES = sorted({*DEBIAN_PURPOSES, *PYTHON_PURPOSES})


@click.command()
@click.argument("purposes", nargs=-1, type=click.Choice(_PURPOSES))
def lock(purposes: tuple[str, ...]) -> None:
    """Lock the newest fitting packages, by SHA-256, for PURPOSES (default: all).

    Debian's packages are of one day, so those of all purposes are locked together.

    For developers of DeRL: it writes gvmi/packages/locks, which belongs into git. Images built
    from the new locks have other hashes. Needs Debian or Ubuntu and a network.
    """
    chosen = purposes or tuple(_PURPOSES)
    for purpose in chosen:
        if purpose in PYTHON_PURPOSES:
            packages = lock_python(purpose)
            click.echo(f"{purpose}: {len(packages)} Python packages")
    if not DEBIAN_PURPOSES.keys().isdisjoint(chosen):
        debian = list(DEBIAN_PURPOSES)  # all are of one day, at which the archive has them
        sections = lock_debian(debian).sections
        for purpose in debian:
            size = sum(one.size_bytes for one in sections[purpose]) / 2**20
            click.echo(f"{purpose}: {len(sections[purpose])} Debian packages, {size:.0f} MiB")
