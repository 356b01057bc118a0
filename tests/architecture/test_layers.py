"""Who may import whom: floors, the doors of foreign libraries, no cycles.

Imports inside functions, under TYPE_CHECKING and by `import_module("...")` count like all others.
"""

import ast
import functools
import importlib.metadata
import re
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("requestor", "provider_image", "native_kernels", "gvmi")

# A part may import parts of lower floors only.
FLOORS = {
    "requestor.cli": 5,
    "gvmi.cli": 4,
    "requestor.reporting": 4,
    "requestor.studies": 4,
    "gvmi": 3,
    "requestor.quoting": 3,
    "requestor.training_run": 3,
    "requestor.evaluation": 3,
    "requestor.marketplace": 2,
    "requestor.federation": 2,
    "requestor.scheduling": 2,
    "requestor.trust": 2,
    "requestor.config": 2,
    "requestor.attacks": 1,
    "requestor.errors": 1,
    "requestor.networks": 1,
    "requestor.secrecy": 1,
    "provider_image.worker_server": 1,
    "provider_image.worker_cli": 1,
    "provider_image.round_runner": 1,
    "provider_image.learners": 1,
    "provider_image.environments": 1,
    "provider_image.wire": 0,
    "requestor.mock_golem": 0,
    "native_kernels": -1,
}
# Within a floor, the left one may import the right one.
SIDEWAYS = {
    # a config is held against what the merging rules bear
    ("requestor.config", "requestor.federation"),
    ("requestor.training_run", "requestor.evaluation"),
    # a quote's benchmark has orders of the run done, by the run's own means
    ("requestor.quoting", "requestor.training_run"),
    ("requestor.quoting", "requestor.evaluation"),
    ("provider_image.worker_server", "provider_image.worker_cli"),
    ("provider_image.worker_server", "provider_image.round_runner"),
    ("provider_image.worker_server", "provider_image.learners"),
    ("provider_image.round_runner", "provider_image.learners"),
    ("provider_image.learners", "provider_image.environments"),
}
# Inside the marketplace: a room may import those further down.
MARKETPLACE_ROOMS = (
    "requestor.marketplace.virtual",
    "requestor.marketplace.golem.renting",
    "requestor.marketplace.golem.paying",
    "requestor.marketplace.golem.daemon",
    "requestor.marketplace.ports",
    "requestor.marketplace.choice",
    "requestor.marketplace.offers",
    "requestor.marketplace.money",
)
# The only doors through which a library may come in.
DOORS = {
    "yapapi": ["requestor.marketplace.golem*"],
    "ya_activity": ["requestor.marketplace.golem*"],
    "ya_market": ["requestor.marketplace.golem*"],
    "ya_net": ["requestor.marketplace.golem*"],
    "ya_payment": ["requestor.marketplace.golem*"],
    "aiohttp.web": ["requestor.mock_golem*"],
    "aiohttp": ["requestor.mock_golem*", "requestor.marketplace.golem*"],
    "click": ["requestor.cli*", "requestor.mock_golem.cli*", "gvmi.cli*"],
    "rich_click": ["requestor.cli*", "requestor.mock_golem.cli*", "gvmi.cli*"],
    "rich": ["requestor.cli*", "requestor.reporting*", "requestor.mock_golem.cli", "gvmi.cli*"],
    "tensorboard": ["requestor.reporting*"],
    "matplotlib": ["requestor.reporting.figures"],
    "stable_baselines3": ["provider_image.learners.sb3*"],
    "torch": ["provider_image.learners*"],
    "gymnasium": [
        "provider_image.environments*",
        "provider_image.learners.sb3*",
        "requestor.attacks.wrong_worlds",  # worlds in which liars train
    ],
    "cupy": ["native_kernels.cuda*"],
    "scipy": ["requestor.federation.merging.searching"],
    "cma": ["requestor.federation.merging.searching"],
    "safetensors": ["provider_image.wire*"],
    "zstandard": ["provider_image.wire*", "gvmi.packages.ubuntu_packages"],
    "pydantic": ["requestor.config*", "requestor.mock_golem*"],
    "yaml": [
        "requestor.config*",
        "requestor.mock_golem*",
        "requestor.cli*",
        "gvmi.image_lock",
        "gvmi.packages.package_locks",
    ],
    "cyclonedx": ["gvmi.assembly.bill_of_materials"],
    "flatbuffers": ["requestor.mock_golem.testnet*"],
    "eth_account": ["requestor.mock_golem.testnet.chain*"],
    "eth_abi": ["requestor.mock_golem.testnet.chain*"],
    "pydantic_core": ["requestor.config*", "requestor.mock_golem*"],
    "pickle": ["provider_image.learners.sb3_export"],  # writes VecNormalize as SB3 reads it
    "cloudpickle": [],
    "dill": [],
    "marshal": [],
    "shelve": [],
}
# Started often or on bare machines: nothing but the standard library.
STANDARD_LIBRARY_ONLY = [
    "provider_image.worker_cli",
    "requestor.mock_golem.guest*",
    "requestor.mock_golem.testnet.keeper",
]


@dataclass(frozen=True)
class Import:
    """`importer` imports `target` (the full dotted name, as far as it is known)."""

    importer: str
    target: str


@functools.cache
def sources() -> Mapping[str, str]:
    """Module name to source text of everything we ship."""
    found = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            found[name.removesuffix(".__init__")] = path.read_text()
    return found


@functools.cache
def parsed(source: str) -> tuple[ast.AST, ...]:
    """All nodes that can import something."""
    kinds = (ast.Import, ast.ImportFrom, ast.Call)
    return tuple(node for node in ast.walk(ast.parse(source)) if isinstance(node, kinds))


def imports(modules: Mapping[str, str]) -> list[Import]:
    """Every import in the modules; `from a import b` targets `a.b`."""
    return [
        Import(importer, target)
        for importer, source in modules.items()
        for node in parsed(source)
        for target in _targets(node, _folder(importer, modules))
    ]


def _folder(importer: str, modules: Mapping[str, str]) -> str:
    """What a single leading dot means in this module."""
    is_package = any(name.startswith(f"{importer}.") for name in modules)
    return importer if is_package else importer.rpartition(".")[0]


def _targets(node: ast.AST, folder: str) -> Iterator[str]:
    match node:
        case ast.Import(names=names):
            yield from (alias.name for alias in names)
        case ast.ImportFrom(level=0, module=str(module), names=names):
            yield from (f"{module}.{alias.name}" for alias in names)
        case ast.ImportFrom(level=level, module=module, names=names):
            above = folder.split(".")[: len(folder.split(".")) - level + 1]
            stem = ".".join([*above, *([module] if module else [])])
            yield from (f"{stem}.{alias.name}" for alias in names)
        case ast.Call(func=ast.Name(id=function) | ast.Attribute(attr=function), args=[first, *_]):
            if function in ("import_module", "__import__"):
                match first:
                    case ast.Constant(value=str(name)):
                        yield name


def is_below(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(f"{prefix}.")


def part_of(name: str) -> str | None:
    """The entry of FLOORS that a module belongs to."""
    return next((part for part in FLOORS if is_below(name, part)), None)


def floor_violations(modules: Mapping[str, str]) -> list[str]:
    found = [f"{name} belongs to no floor" for name in modules if not _has_place(name)]
    for edge in imports(modules):
        source, target = part_of(edge.importer), part_of(edge.target)
        if source is None:
            if edge.target.split(".")[0] in PACKAGES:
                found.append(f"{edge.importer} imports {edge.target}, and should nothing")
        elif target is None:
            if is_below(edge.target, "requestor") or is_below(edge.target, "provider_image"):
                found.append(f"{edge.importer} imports {edge.target}; name the part of it")
        elif source != target and not _may_import(source, target):
            found.append(f"{edge.importer} imports {edge.target}")
    return found


def _has_place(name: str) -> bool:
    return name in PACKAGES or part_of(name) is not None


def _may_import(source: str, target: str) -> bool:
    if source.startswith("gvmi") and target == "requestor.mock_golem":
        return True  # images are verified by what mock providers run them with
    if "requestor.mock_golem" in (source, target):
        return False
    if source.startswith("requestor") and target.startswith("provider_image"):
        return target == "provider_image.wire"
    return FLOORS[target] < FLOORS[source] or (source, target) in SIDEWAYS


def room_violations(
    modules: Mapping[str, str], rooms: Sequence[str] = MARKETPLACE_ROOMS
) -> list[str]:
    def room(name: str) -> int | None:
        return next((i for i, one in enumerate(rooms) if is_below(name, one)), None)

    return [
        f"{edge.importer} imports {edge.target}"
        for edge in imports(modules)
        if (source := room(edge.importer)) is not None
        and (target := room(edge.target)) is not None
        and target < source
    ]


def door_violations(modules: Mapping[str, str]) -> list[str]:
    return [
        f"{edge.importer} imports {edge.target}"
        for edge in imports(modules)
        for library, doors in DOORS.items()
        if is_below(edge.target, library)
        and not any(fnmatchcase(edge.importer, door) for door in doors)
    ]


def foreign(edge: Import) -> bool:
    return edge.target.split(".")[0] not in {*PACKAGES, *sys.stdlib_module_names}


def heavy_imports(modules: Mapping[str, str]) -> list[str]:
    return [
        f"{edge.importer} imports {edge.target}"
        for edge in imports(modules)
        if any(fnmatchcase(edge.importer, light) for light in STANDARD_LIBRARY_ONLY)
        and edge.target.split(".")[0] not in sys.stdlib_module_names
        and not any(fnmatchcase(edge.target, f"{light}*") for light in STANDARD_LIBRARY_ONLY)
    ]


def cycles(modules: Mapping[str, str]) -> list[str]:
    """Modules that reach themselves again, as readable paths."""
    graph: dict[str, set[str]] = {name: set() for name in modules}
    for edge in imports(modules):
        target = edge.target
        while target not in modules and "." in target:
            target = target.rpartition(".")[0]
        if target in modules and target != edge.importer:
            graph[edge.importer].add(target)
    found = []
    for start in sorted(graph):
        path = _way_back(graph, start)
        if path and start == min(path):
            found.append(" -> ".join(path))
    return found


def _way_back(graph: Mapping[str, set[str]], start: str) -> list[str]:
    paths = [[start]]
    seen: set[str] = set()
    for path in paths:
        for target in sorted(graph[path[-1]]):
            if target == start:
                return [*path, start]
            if target not in seen:
                seen.add(target)
                paths.append([*path, target])
    return []


def test_imports_go_downward() -> None:
    assert floor_violations(sources()) == []


def test_the_rooms_of_the_marketplace_import_downward() -> None:
    assert room_violations(sources()) == []
    up = "from requestor.marketplace.golem.renting import rental"
    assert room_violations({"requestor.marketplace.money.x": up}) != []


def test_the_parts_of_the_image_tool_import_downward() -> None:
    order = ("gvmi.cli", "gvmi.verification", "gvmi.registry", "gvmi.booting", "gvmi.assembly")
    assert room_violations(sources(), (*order, "gvmi.packages")) == []


def test_libraries_come_in_through_their_doors() -> None:
    assert door_violations(sources()) == []


def test_nothing_imports_itself_in_a_circle() -> None:
    assert cycles(sources()) == []


def test_light_programs_use_the_standard_library_alone() -> None:
    assert heavy_imports(sources()) == []


def test_the_package_requestor_imports_nothing() -> None:
    assert imports({"requestor": sources()["requestor"]}) == []


def test_every_library_is_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {
        re.split(r"[<>=!~\[; ]", requirement)[0].lower().replace("_", "-")
        for requirement in (
            *project["dependencies"],
            *project["optional-dependencies"]["testnet-tools"],  # behind doors of their own
            *project["optional-dependencies"]["plots"],
            *project["optional-dependencies"]["merging"],
        )
    }
    # halves of yapapi and pydantic, of versions that these choose
    declared |= {"ya-aioclient", "pydantic-core"}
    providers = importlib.metadata.packages_distributions()
    for edge in filter(foreign, imports(sources())):
        distributions = {
            name.lower().replace("_", "-")
            for name in providers.get(edge.target.split(".")[0], ["unknown"])
        }
        assert distributions & declared, f"{edge.importer} imports {edge.target}"


@pytest.mark.parametrize(
    ("importer", "statement"),
    [
        ("requestor.config.x", "import requestor.cli"),
        ("requestor.federation.x", "from requestor import scheduling"),
        ("requestor.federation.x", "def f():\n    import requestor.marketplace"),
        ("requestor.evaluation.x", "import requestor.training_run"),
        ("requestor.evaluation.x", "from provider_image import learners"),
        ("requestor.evaluation.x", "import provider_image"),
        ("requestor.cli.x", "from requestor.mock_golem import daemon"),
        ("requestor.mock_golem.x", "from requestor.errors import DerlError"),
        ("provider_image.wire.x", "import provider_image.learners"),
        ("native_kernels.x", "import provider_image.wire"),
        ("provider_image.environments.x", "import provider_image.learners"),
        ("provider_image.learners.x", "import requestor.errors"),
        ("requestor.config.x", "if TYPE_CHECKING:\n    import requestor.cli"),
        ("requestor.config.x", "import importlib\nimportlib.import_module('requestor.cli')"),
        ("requestor", "import requestor.errors"),
        ("requestor.helpers", ""),
    ],
)
def test_the_floor_check_sees(importer: str, statement: str) -> None:
    assert floor_violations({importer: statement})


@pytest.mark.parametrize(
    ("importer", "statement"),
    [
        ("requestor.marketplace.x", "import yapapi"),
        ("requestor.marketplace.golem.x", "from aiohttp import web"),
        ("requestor.federation.x", "from torch import nn"),
        ("requestor.config.x", "import stable_baselines3.ppo"),
        ("provider_image.learners.native", "import stable_baselines3"),
        ("requestor.training_run.x", "import click"),
        ("provider_image.wire.x", "import pickle"),
        ("requestor.evaluation.x", "from pickle import loads"),
    ],
)
def test_the_door_check_sees(importer: str, statement: str) -> None:
    assert door_violations({importer: statement})


def test_the_other_checks_see() -> None:
    assert heavy_imports({"provider_image.worker_cli": "import numpy"})
    assert cycles(
        {
            "requestor.a": "from requestor.b import x",
            "requestor.b": "if TYPE_CHECKING:\n    import requestor.c",
            "requestor.c": "def f():\n    from requestor import a",
        }
    ) == ["requestor.a -> requestor.b -> requestor.c -> requestor.a"]
    relative = {"requestor.a": "", "requestor.a.b": "from . import c\nfrom ..d import e"}
    assert [edge.target for edge in imports(relative)] == ["requestor.a.c", "requestor.d.e"]
