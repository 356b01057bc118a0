"""What is installed in an image, and whether its bill of materials says the same."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote

from gvmi.verification.deviations import Deviation, shown
from gvmi.verification.tree import Tree

MAX_BILL_BYTES = 16 << 20
MAX_STATUS_BYTES = 16 << 20
DPKG_STATUS = "/var/lib/dpkg/status"
DEBIAN_DOCUMENTS = "/usr/share/doc"
Packages = Mapping[str, frozenset[str]]
"""Versions by package name; Python's are in their normalised spelling."""

_DIST_INFO = re.compile(r".*/(?:site|dist)-packages/([^/]+)-([^/-]+)\.dist-info/METADATA")
_PURL = re.compile(r"pkg:(pypi|deb)/(?:([^/@?#]+)/)?([^/@?#]+)@([^?#]+)(?:[?#].*)?")


class UnreadableBill(ValueError):
    """The bill of materials is not CycloneDX JSON."""


def python_packages(tree: Tree) -> Packages:
    """Return the installed distributions, by the names of their `dist-info` folders."""
    found: dict[str, set[str]] = {}
    for entry in tree:
        match = _DIST_INFO.fullmatch(entry.path)
        if match is not None and entry.is_file:
            found.setdefault(normalised(match[1]), set()).add(match[2])
    return _frozen(found)


def debian_packages(status: bytes) -> Packages:
    """Return the installed packages of a dpkg status file."""
    found: dict[str, set[str]] = {}
    for stanza in status.decode(errors="replace").split("\n\n"):
        fields = dict(
            line.partition(": ")[::2]
            for line in stanza.split("\n")
            if line.startswith(("Package:", "Version:", "Status:"))
        )
        is_installed = fields.get("Status", "installed").endswith("installed")
        if is_installed and "Package" in fields and "Version" in fields:
            found.setdefault(fields["Package"].strip(), set()).add(fields["Version"].strip())
    return _frozen(found)


def documented_packages(tree: Tree) -> set[str]:
    """Return the names of Debian's packages whose documents are there.

    Debian demands of every package that it has a copyright among them.
    """
    start = f"{DEBIAN_DOCUMENTS}/"
    return {one.path.removeprefix(start).partition("/")[0] for one in tree.below(start)}


def billed(bill: bytes) -> dict[str, Packages]:
    """Return what a bill of materials (CycloneDX JSON) lists: packages by `pypi` and `deb`.

    Raises:
        UnreadableBill: it is none.
    """
    try:
        document: Any = json.loads(bill)
    except (ValueError, RecursionError) as error:
        raise UnreadableBill("it is not JSON") from error
    if not isinstance(document, dict) or document.get("bomFormat") != "CycloneDX":
        raise UnreadableBill("it is not CycloneDX")
    components = document.get("components")
    if not isinstance(components, list):
        raise UnreadableBill("it has no list of components")
    found: dict[str, dict[str, set[str]]] = {"pypi": {}, "deb": {}}
    for component in components:
        purl = component.get("purl") if isinstance(component, dict) else None
        match = _PURL.fullmatch(purl) if isinstance(purl, str) and len(purl) < 1000 else None
        if match is not None:
            kind, _, name, version = (unquote(part or "") for part in match.groups())
            plain = normalised(name) if kind == "pypi" else name
            found[kind].setdefault(plain, set()).add(version)
    return {kind: _frozen(packages) for kind, packages in found.items()}


def differences(bill: Packages, installed: Packages, what: str) -> Iterator[Deviation]:
    """Tell each package in which bill and image differ; `what` names their kind."""
    for name in sorted({*bill, *installed}):
        told, there = bill.get(name), installed.get(name)
        if told == there:
            continue
        label = f"{what} {shown(name)}"
        if there is None:
            text = f"{label} {_list(told)} is in the bill and not in the image"
        elif told is None:
            text = f"{label} {_list(there)} is in the image and not in its bill"
        else:
            text = f"{label}: the bill says {_list(told)}, installed is {_list(there)}"
        yield Deviation("bill", text)


def normalised(name: str) -> str:
    """Return a distribution's name as the Python package index spells it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _frozen(found: Mapping[str, set[str]]) -> Packages:
    return {name: frozenset(versions) for name, versions in found.items()}


def _list(versions: frozenset[str] | None) -> str:
    return ", ".join(shown(version) for version in sorted(versions or ()))
