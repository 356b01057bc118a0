"""The software bill of materials of an image, in CycloneDX's JSON."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from importlib.metadata import PathDistribution
from pathlib import Path

from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import DisjunctiveLicense, License, LicenseExpression
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

from gvmi.packages.package_locks import DebianPackage, PythonPackage
from gvmi.variants import SOURCE_DATE_EPOCH, Variant

_LONGEST_LICENCE = 100


def bill_of_materials(
    variant: Variant,
    sources: str,
    debian: Sequence[DebianPackage],
    python: Sequence[PythonPackage],
    site_packages: Path,
) -> str:
    """Return the bill of an image whose site-packages lie in a folder here, as JSON text.

    It is a pure function of what the image holds: no clock, no random numbers.
    """
    wheels = {_plain(one.name): one for one in python}
    components = [_debian(one) for one in debian]
    components += [
        _python(PathDistribution(folder), wheels)
        for folder in sorted(site_packages.glob("*.dist-info"))
    ]
    own = Component(
        name=f"derl-{variant}",
        type=ComponentType.CONTAINER,
        version=sources[:16],
        bom_ref=f"derl-{variant}",  # else a random one
    )
    bom = Bom(
        components=components, serial_number=uuid.uuid5(uuid.NAMESPACE_OID, variant + sources)
    )
    bom.metadata.timestamp = datetime.fromtimestamp(SOURCE_DATE_EPOCH, UTC)
    bom.metadata.component = own
    bom.metadata.properties.add(Property(name="derl:sources", value=sources))
    bom.register_dependency(own, components)
    return str(JsonV1Dot6(bom).output_as_string(indent=1))


def _debian(package: DebianPackage) -> Component:
    is_ubuntu = package.path.startswith("ubuntu/")
    maker, distro = ("ubuntu", "jammy") if is_ubuntu else ("debian", "bookworm")
    return Component(
        name=package.name,
        version=package.version,
        type=ComponentType.LIBRARY,
        bom_ref=f"deb/{package.name}",
        purl=PackageURL(
            "deb", maker, package.name, package.version, {"arch": "amd64", "distro": distro}
        ),
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=package.sha256)],
        licenses=[DisjunctiveLicense(name=f"see /usr/share/doc/{package.name}/copyright")],
    )


def _python(found: PathDistribution, wheels: dict[str, PythonPackage]) -> Component:
    name, version = found.metadata["Name"], found.version
    wheel = wheels.get(_plain(name))
    return Component(
        name=name,
        version=version,
        type=ComponentType.LIBRARY,
        bom_ref=f"pypi/{_plain(name)}",
        purl=PackageURL("pypi", None, _plain(name), version),
        hashes=[] if wheel is None else [HashType(alg=HashAlgorithm.SHA_256, content=wheel.sha256)],
        licenses=list(_licences(found)),
    )


def _licences(found: PathDistribution) -> Iterable[License]:
    expressions = found.metadata.get_all("License-Expression") or []
    if expressions:
        yield LicenseExpression(expressions[0])
        return
    classified = [
        line.rpartition(" :: ")[2]
        for line in found.metadata.get_all("Classifier") or []
        if line.startswith("License ::")
    ]
    text = next(iter(found.metadata.get_all("License") or []), "").strip()
    if text and "\n" not in text and len(text) <= _LONGEST_LICENCE:
        classified = [text]
    yield from (DisjunctiveLicense(name=name) for name in classified)


def _plain(name: str) -> str:
    return name.lower().replace("_", "-").replace(".", "-")
