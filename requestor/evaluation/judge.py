"""Fresh models, evaluations, probes and exports, each as one order to the local worker."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, pstdev
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from provider_image.wire import (
    MAX_FILE_BYTES,
    Bundle,
    Direction,
    EnvironmentSpec,
    EvaluateOrder,
    ExportOrder,
    FileRef,
    ImportOrder,
    InitialiseOrder,
    InnerSteps,
    LearnerSpec,
    ModelMetadata,
    ProbedUpdates,
    ProbeOrder,
    ProbeResult,
    RefineOrder,
    StateRules,
    Tensors,
    TrainOrder,
    WireError,
    check_tensors,
    decode_metadata,
    read_bundle,
    read_file,
    settled,
    sha256_file,
    specs_of,
    write_bundle,
)
from requestor.evaluation.local_worker import LocalOrderFailed, LocalWorker, LocalWorkerError

MODEL_NAME = "model.safetensors"
OUTPUT_NAME = "output.safetensors"
DIRECTION_NAME = "direction.safetensors"
ARCHIVE_NAME = "archive.zip"
UPDATES_NAME = "updates.safetensors"


@dataclass(frozen=True)
class Evaluation:
    """Returns and lengths of E episodes, in the order of their seeds."""

    returns: tuple[float, ...]
    lengths: tuple[int, ...]

    @property
    def mean_return(self) -> float:
        """Mean of the returns."""
        return fmean(self.returns)

    @property
    def std_return(self) -> float:
        """Population standard deviation of the returns."""
        return pstdev(self.returns)

    @property
    def mean_length(self) -> float:
        """Mean episode length in steps."""
        return fmean(self.lengths)


@dataclass(frozen=True)
class Divergences:
    """How far each of N updates moves the policy: `values` float64[N], not negative.

    `measure` as in `provider_image.wire.ProbeResult`; 1e9 is what has no measure any more.
    """

    values: npt.NDArray[np.float64]
    measure: Literal["kl", "actions"]


@dataclass(frozen=True)
class Refinement:
    """What the server's own steps of one round are; `inner` None: one step along the direction."""

    run_id: str
    round: int
    seed: int
    progress: float
    inner: InnerSteps | None


@dataclass(frozen=True)
class Judge:
    """Whatever needs the learner, done by the worker on our own machine.

    Where `learner` leaves open which learner it is, each model says it for itself. `exporter`, if
    there is one, writes SB3's files, so that no evaluation waits until SB3 is imported.
    """

    worker: LocalWorker
    environment: EnvironmentSpec
    learner: LearnerSpec
    rules: StateRules
    exporter: LocalWorker | None = None

    async def initialise(self, run_id: str, seed: int) -> Bundle:
        """Return a fresh model bundle made from `seed`."""
        order = InitialiseOrder(
            run_id=run_id,
            seed=seed,
            environment=self.environment,
            learner=self.learner,
            rules=self.rules,
            output=OUTPUT_NAME,
        )
        await self.worker.execute(order, {})
        return self._output()

    async def evaluate(
        self, model: Path, seeds: Sequence[int], *, deterministic: bool
    ) -> Evaluation:
        """Play one episode a seed with the model bundle at `model`.

        Raises:
            LocalOrderFailed: nothing can be played with this model.
            LocalWorkerError: the worker failed.
        """
        order = EvaluateOrder(
            environment=self.environment,
            learner=self._learner_of(model),
            rules=self.rules,
            model=_reference(model),
            seeds=tuple(seeds),
            deterministic=deterministic,
            output=OUTPUT_NAME,
        )
        await self.worker.execute(order, {MODEL_NAME: model})
        bundle = self._output()
        returns = tuple(map(float, _column(bundle, "returns")))
        lengths = tuple(map(int, _column(bundle, "lengths")))
        if not len(returns) == len(lengths) == len(seeds):
            raise LocalWorkerError(f"{len(returns)} episodes instead of {len(seeds)}")
        for seed, value in zip(seeds, returns, strict=True):
            if not math.isfinite(value):
                raise LocalOrderFailed(f"the episode with seed {seed} returned {value}")
        return Evaluation(returns, lengths)

    async def probe(
        self, model: Path, updates: npt.NDArray[np.float32], seeds: Sequence[int], *, samples: int
    ) -> Divergences:
        """Measure how far each of `updates` float32[N, P] moves the policy of the bundle `model`.

        N is 1 to 1024; a row is the policy's arrays in the order of their sorted names, finite.
        The observations are the first `samples` that the model meets in environments reset with
        `seeds` (1 to 64), stepped side by side: fewer seeds look deeper into an episode.

        Raises:
            LocalOrderFailed: the updates do not fit the model, or nothing can be played with it.
            LocalWorkerError: the worker failed.
        """
        with tempfile.TemporaryDirectory(prefix="derl-probe-") as folder:
            path = Path(folder, UPDATES_NAME)
            reference = write_bundle(path, {"updates": updates}, ProbedUpdates())
            order = ProbeOrder(
                environment=self.environment,
                learner=self._learner_of(model),
                rules=self.rules,
                model=_reference(model),
                updates=reference,
                seeds=tuple(seeds),
                samples=samples,
                output=OUTPUT_NAME,
            )
            await self.worker.execute(order, {MODEL_NAME: model, UPDATES_NAME: path})
        bundle = self._output()
        values = _column(bundle, "divergences")
        if len(values) != len(updates):
            raise LocalWorkerError(f"{len(values)} divergences instead of {len(updates)}")
        if not (values >= 0).all():
            raise LocalOrderFailed("a divergence is negative, or no number")
        try:
            return Divergences(values, decode_metadata(bundle, ProbeResult).measure)
        except WireError as error:
            raise LocalOrderFailed(str(error)) from error

    async def estimate(self, model: Path, order: TrainOrder) -> Tensors:
        """Return the update of `order`, done on this machine with the model bundle at `model`.

        Raises:
            LocalWorkerError: the worker failed, or cannot do the order.
        """
        done = replace(order, model=_reference(model), output=OUTPUT_NAME)
        await self.worker.execute(done, {MODEL_NAME: model})
        return self._output().tensors

    async def refine(self, model: Path, direction: Tensors, refinement: Refinement) -> Tensors:
        """Return the whole model after the server's own steps along `direction`.

        Raises:
            LocalWorkerError: the worker failed, or cannot do the order.
        """
        with tempfile.TemporaryDirectory(prefix="derl-refine-") as folder:
            path = Path(folder, DIRECTION_NAME)
            order = RefineOrder(
                run_id=refinement.run_id,
                round=refinement.round,
                seed=refinement.seed,
                environment=self.environment,
                learner=self._learner_of(model),
                rules=self.rules,
                model=_reference(model),
                direction=write_bundle(path, direction, Direction()),
                progress=refinement.progress,
                inner=refinement.inner,
                output=OUTPUT_NAME,
            )
            await self.worker.execute(order, {MODEL_NAME: model, DIRECTION_NAME: path})
        refined = self._output().tensors
        before = read_bundle(model, max_bytes=MAX_FILE_BYTES).tensors
        try:
            check_tensors(refined, specs_of(before), source="the refined model")
        except WireError as error:
            raise LocalOrderFailed(str(error)) from error
        return refined

    async def import_archive(self, archive: Path, model: Path) -> None:
        """Write the weights in SB3's zip `archive` as a model bundle to `model`."""
        order = ImportOrder(
            run_id="import",
            environment=self.environment,
            learner=self.learner,
            archive=_reference(archive, ARCHIVE_NAME),
            output=OUTPUT_NAME,
        )
        await self.worker.execute(order, {ARCHIVE_NAME: archive})
        _publish(self.worker.folder / OUTPUT_NAME, model)

    async def export(self, model: Path, seed: int, archive: Path, normalizer: Path) -> None:
        """Write the model as SB3's zip, and its normaliser, if it has one, as SB3's pickle."""
        has_normalizer = self.environment.normalize is not None
        order = ExportOrder(
            environment=self.environment,
            learner=self._learner_of(model),
            rules=self.rules,
            seed=seed,
            model=_reference(model),
            output="export.zip",
            normalizer_output="export.pkl" if has_normalizer else None,
        )
        worker = self.exporter or self.worker
        await worker.execute(order, {MODEL_NAME: model})
        _publish(worker.folder / "export.zip", archive)
        if has_normalizer:
            _publish(worker.folder / "export.pkl", normalizer)

    def _output(self) -> Bundle:
        """What the worker has written; whoever is in its jail may have written anything."""
        try:
            return read_bundle(self.worker.folder / OUTPUT_NAME, max_bytes=MAX_FILE_BYTES)
        except WireError as error:
            raise LocalOrderFailed(str(error)) from error

    def _learner_of(self, model: Path) -> LearnerSpec:
        if self.learner.learner != "auto":
            return self.learner
        bundle = read_bundle(model, max_bytes=MAX_FILE_BYTES)
        return settled(self.learner, decode_metadata(bundle, ModelMetadata))


def _reference(file: Path, name: str = MODEL_NAME) -> FileRef:
    return FileRef(name=name, sha256=sha256_file(file, MAX_FILE_BYTES), bytes=file.stat().st_size)


def _column(bundle: Bundle, name: str) -> npt.NDArray[Any]:
    """A tensor with one axis of numbers."""
    column = bundle.tensors.get(name)
    if column is None or column.ndim != 1 or column.dtype.kind not in "fi":
        raise LocalOrderFailed(f"the worker's answer has no {name}")
    return column


def _publish(source: Path, target: Path) -> None:
    """Put a copy of what the worker wrote in its place: the file itself may still be open."""
    try:
        content = read_file(source, MAX_FILE_BYTES)
    except WireError as error:
        raise LocalOrderFailed(str(error)) from error
    temporary = target.with_name(target.name + ".tmp")
    temporary.write_bytes(content)
    temporary.replace(target)
    source.unlink(missing_ok=True)
