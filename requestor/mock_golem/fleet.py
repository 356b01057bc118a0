"""Fleet files: which providers there are, what they cost, how fast they are, what goes wrong."""

import difflib
from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    model_validator,
)

from requestor.mock_golem.faults import (
    DAEMON_FAULTS,
    PROVIDER_FAULTS,
    DaemonFault,
    DaemonRestart,
    Fault,
    ProviderFault,
    kind_of,
)
from requestor.mock_golem.images.description import Image

MAX_FLEET_FILE_BYTES = 1 << 20
MAX_PROVIDERS = 1000
Glm = Annotated[Decimal, Field(ge=0, allow_inf_nan=False)]
_OF_THE_FILE = {"root", "volumes", "working_dir", "environment"}
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=63)]


class FleetError(ValueError):
    """A fleet file cannot be used; the message names what is wrong, where, and the fix."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Price(_Section):
    """What a provider charges, in GLM."""

    start_glm: Glm = Decimal(0)
    cpu_hour_glm: Glm = Decimal("0.1")
    hour_glm: Glm = Decimal("0.02")

    @property
    def coefficients(self) -> list[float]:
        """GLM per CPU second, GLM per second, GLM at the start: `list[float]`, length 3."""
        hour_seconds = Decimal(3600)
        return [
            float(self.cpu_hour_glm / hour_seconds),
            float(self.hour_glm / hour_seconds),
            float(self.start_glm),
        ]


class Terms(_Section):
    """What a provider insists on; the defaults are ya-provider's."""

    debit_note_interval_seconds: PositiveFloat = 120.0
    debit_note_accept_seconds: PositiveInt = 240
    payment_timeout_seconds: PositiveInt = 120
    min_expiration_seconds: NonNegativeFloat = 300.0
    idle_agreement_seconds: PositiveFloat = 90.0
    required_properties: tuple[str, ...] = ("golem.com.payment.chosen-platform",)


class Gpu(_Section):
    """A kind of graphics card that a provider offers; `names`: which property names it uses."""

    model: Annotated[str, Field(min_length=1, max_length=100)]
    memory_gib: PositiveFloat = 8.0
    quantity: PositiveInt = 1
    cuda_cores: PositiveInt = 4096
    names: Literal["gap-35", "current"] = "current"


class ProviderModel(_Section):
    """One provider, or `count` alike.

    `wallet` is where its payments go (null: its own node); `properties` are put into its offer as
    they are, over those that follow from the rest (null takes one out). `programs` are run in place
    of those that it is asked for, by name; `shared` is a folder of this machine that its containers
    and those of all who name it can write, told to them as MOCK_GOLEM_SHARED.
    """

    name: Name
    count: int = Field(default=1, ge=1, le=MAX_PROVIDERS)
    price: Price = Price()
    wallet: Annotated[str, Field(pattern=r"^0x[0-9a-f]{40}$")] | None = None
    runtime: Name = "vm"
    gpu: Gpu | None = None
    properties: dict[str, JsonValue] = Field(default_factory=dict, max_length=200)
    threads: PositiveInt = 1
    memory_gib: PositiveFloat = 4.0
    storage_gib: PositiveFloat = 20.0
    pace: float = Field(default=1.0, gt=0.0, le=1.0)
    capabilities: tuple[str, ...] = ("vpn",)
    terms: Terms = Terms()
    programs: dict[Name, Annotated[str, Field(min_length=1, max_length=4096)]] = Field(
        default_factory=dict, max_length=100
    )
    shared: Path | None = None
    faults: tuple[ProviderFault, ...] = ()


class Payment(_Section):
    """Which payment platform providers take."""

    driver: Name = "erc20"
    network: Name = "hoodi"

    @property
    def token(self) -> str:
        """`glm` on the main networks, `tglm` on test networks."""
        return "glm" if self.network in ("mainnet", "polygon") else "tglm"

    @property
    def platform(self) -> str:
        """The platform's name, for example `erc20-hoodi-tglm`."""
        return f"{self.driver}-{self.network}-{self.token}"


class Requestor(_Section):
    """The requestor's own account."""

    funds_glm: Glm = Decimal(1000)


class Runtime(_Section):
    """How commands run.

    `process`: with the programs of this machine; `path` is their PATH, null the daemon's Python
    plus system folders. `image`: in the root file system of the image that is asked for, which is
    downloaded; path and environment are the image's.
    """

    kind: Literal["process", "image"] = "process"
    isolation: Literal["auto", "bubblewrap", "process"] = "auto"
    path: str | None = None
    environment: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _check(self) -> "Runtime":
        if self.kind == "image":
            for name in ("path", "environment"):
                if getattr(self, name):
                    raise ValueError(f"`{name}` is the image's own with `kind: image`; take it out")
            if self.isolation == "process":
                raise ValueError("`isolation: process` has no room for an image; take it out")
        return self


class Registry(_Section):
    """The daemon's image registry: `store` is its folder, relative to the fleet file.

    It is made where it does not exist.
    """

    store: Path


class Fleet(_Section):
    """A whole fleet file."""

    subnet: str = Field(default="public", min_length=1)
    payment: Payment = Payment()
    requestor: Requestor = Requestor()
    runtime: Runtime = Runtime()
    seed: int = 0
    images: tuple[Image, ...] = ()
    registry: Registry | None = None
    providers: tuple[ProviderModel, ...]
    daemon_faults: tuple[DaemonFault, ...] = ()

    @model_validator(mode="after")
    def _check(self) -> "Fleet":
        if not self.providers:
            raise ValueError("`providers` is empty; name at least one provider")
        names = [provider.name for provider in self.expanded()]
        if len(names) > MAX_PROVIDERS:
            raise ValueError(f"{len(names)} providers are more than {MAX_PROVIDERS}")
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two providers are called {', '.join(twice)}; give each its own name")
        if self.runtime.kind == "image":
            self._check_images()
        for fault in self.daemon_faults:
            if isinstance(fault, DaemonRestart) and (
                (fault.after_seconds is None) == (fault.after_requests is None)
            ):
                raise ValueError("daemon_restart takes either after_seconds or after_requests")
        return self

    def _check_images(self) -> None:
        for number, provider in enumerate(self.providers):
            if provider.programs or provider.shared:
                raise ValueError(
                    f"with `runtime: {{kind: image}}` there are no programs but the image's; take "
                    f"out providers[{number}].programs and shared, or use `kind: process`"
                )
        for number, image in enumerate(self.images):
            said = sorted(image.model_fields_set & _OF_THE_FILE)
            if said:
                raise ValueError(
                    f"with `runtime: {{kind: image}}` the file of an image says what it holds; "
                    f"take out {', '.join(f'images[{number}].{name}' for name in said)}"
                )

    def expanded(self) -> tuple[ProviderModel, ...]:
        """Return the providers one by one; `count: 3` of willow makes willow-1 to willow-3."""
        return tuple(_expand(self.providers))


def _expand(providers: Sequence[ProviderModel]) -> Iterator[ProviderModel]:
    for provider in providers:
        if provider.count == 1:
            yield provider
            continue
        for number in range(1, provider.count + 1):
            yield provider.model_copy(update={"name": f"{provider.name}-{number}", "count": 1})


def load_fleet(path: Path) -> Fleet:
    """Read a fleet file.

    Raises:
        FleetError: it cannot be read, or is not a fleet; the message has one line per error.
    """
    try:
        size_bytes = path.stat().st_size
        if size_bytes > MAX_FLEET_FILE_BYTES:
            raise FleetError(f"{path}: {size_bytes} bytes; a fleet file has at most 1 MiB")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise FleetError(f"{path}: cannot be read: {reason}. Check the path.") from error
    return _with_folders(parse_fleet(text, str(path)), path)


def _with_folders(fleet: Fleet, path: Path) -> Fleet:
    """Make the folders of images absolute: they are relative to the fleet file."""
    images = []
    for number, image in enumerate(fleet.images):
        root = None if image.root is None else (path.parent / image.root).resolve()
        if root is not None and not root.is_dir():
            raise FleetError(f"{path}: {root} is not a folder @ images[{number}].root")
        images.append(image.model_copy(update={"root": root}))
    registry = fleet.registry
    if registry is not None:
        store = (path.parent / registry.store).resolve()
        if store.exists() and not store.is_dir():
            raise FleetError(f"{path}: {store} is not a folder @ registry.store")
        registry = registry.model_copy(update={"store": store})
    providers = tuple(_with_shared(provider, path.parent) for provider in fleet.providers)
    return fleet.model_copy(
        update={"images": tuple(images), "registry": registry, "providers": providers}
    )


def _with_shared(provider: ProviderModel, folder: Path) -> ProviderModel:
    if provider.shared is None:
        return provider
    return provider.model_copy(update={"shared": (folder / provider.shared).resolve()})


def parse_fleet(text: str, source: str = "fleet") -> Fleet:
    """Read a fleet from YAML text; `source` names it in messages.

    Raises:
        FleetError: the text is not a fleet; the message has one line per error.
    """
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise FleetError(f"{source}: not YAML: {' '.join(str(error).split())}") from error
    except RecursionError as error:
        raise FleetError(f"{source}: nested too deeply") from error
    if not isinstance(data, dict):
        raise FleetError(
            f"{source}: expected a mapping with `providers:`, found {type(data).__name__}"
        )
    try:
        return Fleet.model_validate(data)
    except ValidationError as error:
        lines = [_explain(dict(detail), data) for detail in error.errors(include_url=False)]
        raise FleetError("\n".join(f"{source}: {line}" for line in lines)) from error


def _explain(detail: dict[str, Any], data: Any) -> str:
    path = [part for part in detail["loc"] if part not in _KINDS]
    place = _dotted(path) or "the file"
    message = str(detail["msg"]).removeprefix("Value error, ")
    if detail["type"] == "extra_forbidden":
        known = _known_names(path[:-1], data)
        return f"unknown key `{path[-1]}` @ {place}{_hint(str(path[-1]), known)}"
    if detail["type"] == "union_tag_invalid":
        kinds = _DAEMON_KINDS if "daemon_faults" in path else _PROVIDER_KINDS
        tag = str(detail["ctx"]["tag"])
        return f"unknown fault kind `{tag}` @ {place}{_hint(tag, list(kinds))}"
    if detail["type"] == "union_tag_not_found":
        return f"a fault needs a `kind` @ {place}; `mock-golem faults` lists them"
    found = "" if detail["type"] == "missing" else f", found {detail['input']!r:.60}"
    if detail["type"] == "value_error" and not path:
        found = ""
    return f"{message}{found} @ {place}"


def _dotted(path: Sequence[int | str]) -> str:
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def _hint(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    if near:
        return f": did you mean `{near[0]}`?"
    return f": known are {', '.join(sorted(known))}" if known else ""


def _known_names(path: Sequence[int | str], data: Any) -> list[str]:
    model: type[BaseModel] | None = Fleet
    value: Any = data
    for part in path:
        value = cast(Any, value)[part] if isinstance(value, list | dict) else None
        if isinstance(part, int):
            if isinstance(value, dict) and model is Fault:
                model = _KINDS.get(str(value.get("kind")))
            continue
        model = _SECTIONS.get(part)
    return [] if model is None else list(model.model_fields)


_PROVIDER_KINDS = {kind_of(fault): fault for fault in PROVIDER_FAULTS}
_DAEMON_KINDS = {kind_of(fault): fault for fault in DAEMON_FAULTS}
_KINDS: dict[str, type[Fault]] = {**_PROVIDER_KINDS, **_DAEMON_KINDS}
_SECTIONS: dict[str, type[BaseModel]] = {
    "providers": ProviderModel,
    "price": Price,
    "gpu": Gpu,
    "terms": Terms,
    "payment": Payment,
    "requestor": Requestor,
    "runtime": Runtime,
    "images": Image,
    "registry": Registry,
    "faults": Fault,
    "daemon_faults": Fault,
}
