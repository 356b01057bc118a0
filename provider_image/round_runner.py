"""Executes one order: reads the files it names, asks the learner, writes what it asks for.

Nothing is decided here. The worker (`worker_server.py`, read it next) calls `execute` for every
order it is handed; tests and tools may call it directly. Learners: `learners/base.py`.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import msgspec

from provider_image.learners import (
    Choice,
    InitialModel,
    Learner,
    LearnerRefused,
    RefiningLearner,
    check_link_state,
    choose_learner,
    load_learner,
)
from provider_image.wire import (
    FEEDBACK_NAME,
    MAX_FILE_BYTES,
    Bundle,
    ClientStateMetadata,
    EvaluateOrder,
    EvaluateResult,
    ExportOrder,
    FileRef,
    ImportOrder,
    InitialiseOrder,
    LearnerName,
    LinkRange,
    LinkState,
    Order,
    ProbeOrder,
    ProbeResult,
    RefineOrder,
    RefineResult,
    Tensors,
    TrainOrder,
    TrainResult,
    WireError,
    base_digest,
    compress,
    decode_metadata,
    order_digest,
    read_bundle,
    sha256_file,
    split_feedback,
    write_bundle,
)


def execute(order: Order, directory: Path) -> dict[str, str]:
    """Execute an order whose files lie in `directory`; returns SHA-256 (hex) by output name.

    Raises WireError, EnvironmentRefused, LearnerRefused or TrainingFailed; outputs are written
    whole or not at all.
    """
    if isinstance(order, InitialiseOrder | ImportOrder):
        choice = choose_learner(order)
        learner = load_learner(order.learner.algorithm, choice.learner)
        model = _made(learner, order, directory)
        reference = _write_model(model, choice, directory / order.output)
        return {reference.name: reference.sha256}
    # an order that reads a model says which learner executes it; the wire refuses `auto` there
    name: LearnerName = "native" if order.learner.learner == "native" else "sb3"
    learner = load_learner(order.learner.algorithm, name)
    match order:
        case TrainOrder():
            written = _train(learner, order, directory)
        case RefineOrder():
            written = [_refine(learner, order, directory)]
        case EvaluateOrder():
            written = [_evaluate(learner, order, directory)]
        case ProbeOrder():
            written = [_probe(learner, order, directory)]
        case ExportOrder():
            return _export(learner, order, directory)
    return {reference.name: reference.sha256 for reference in written}


def _made(learner: Learner, order: InitialiseOrder | ImportOrder, directory: Path) -> InitialModel:
    if isinstance(order, InitialiseOrder):
        return learner.initialise(order)
    archive = directory / order.archive.name
    if sha256_file(archive, order.archive.bytes) != order.archive.sha256:
        raise WireError(f"{order.archive.name}: SHA-256 is not the announced one")
    return learner.import_archive(order, directory)


def _write_model(model: InitialModel, choice: Choice, path: Path) -> FileRef:
    metadata = msgspec.structs.replace(
        model.metadata, learner=choice.learner, learner_reason=choice.reason
    )
    return write_bundle(path, model.tensors, metadata)


def _train(learner: Learner, order: TrainOrder, directory: Path) -> list[FileRef]:
    wall_start, cpu_start = time.monotonic(), time.process_time()
    model = _read(directory, order.model)
    state = None if order.client_state is None else _read(directory, order.client_state)
    spec = order.compression
    feedback = None
    if spec is not None and spec.feedback and state is not None:
        state, feedback = split_feedback(state, model)
    link_state = _link_state(order, directory)
    outcome = learner.train(
        order, model, state if order.rules.client_has_state else None, link_state
    )
    update, kept = outcome.tensors, outcome.client_state
    if spec is not None:
        update, feedback = compress(update, spec, order.seed, feedback)
        if feedback is not None:
            kept = {**(kept or {}), FEEDBACK_NAME: feedback}
    written = []
    if order.links is not None:
        written += _written_link_state(order.links, outcome.link_state, order, directory)
    elif order.client_state_output is not None and kept is not None:
        metadata = ClientStateMetadata(
            run_id=order.run_id,
            client=order.client,
            round=order.round,
            algorithm=order.learner.algorithm,
        )
        path = directory / order.client_state_output
        written.append(write_bundle(path, kept, metadata))
    result = TrainResult(
        order_sha256=order_digest(order),
        steps=outcome.steps,
        episodes=outcome.episodes,
        metrics=dict(outcome.metrics),
        wall_seconds=time.monotonic() - wall_start,
        cpu_seconds=time.process_time() - cpu_start,
        packages=learner.packages(),
        links=outcome.links,
    )
    return [write_bundle(directory / order.output, update, result), *written]


def _link_state(order: TrainOrder, directory: Path) -> Tensors | None:
    if order.links is None or order.links.state is None:
        return None
    bundle = _bundle(directory, order.links.state)
    metadata = decode_metadata(bundle, LinkState)
    if (metadata.base_sha256, metadata.link) != (base_digest(order), order.links.first):
        raise WireError(f"{bundle.source}: is link {metadata.link} of another work")
    check_link_state(order, bundle.tensors)
    return bundle.tensors


def _written_link_state(
    links: LinkRange, state: Tensors | None, order: TrainOrder, directory: Path
) -> list[FileRef]:
    if links.state_output is None or state is None:
        return []
    metadata = LinkState(base_sha256=base_digest(order), link=links.last)
    return [write_bundle(directory / links.state_output, state, metadata)]


def _refine(learner: Learner, order: RefineOrder, directory: Path) -> FileRef:
    if not isinstance(learner, RefiningLearner):
        raise LearnerRefused(f"algorithm {order.learner.algorithm} has nothing to refine")
    direction = _read(directory, order.direction)
    refined = learner.refine(order, _read(directory, order.model), direction)
    result = RefineResult(
        order_sha256=order_digest(order),
        inner_steps=refined.inner_steps,
        episodes=refined.episodes,
        steps=refined.steps,
    )
    return write_bundle(directory / order.output, refined.tensors, result)


def _evaluate(learner: Learner, order: EvaluateOrder, directory: Path) -> FileRef:
    evaluation = learner.evaluate(order, _read(directory, order.model))
    return write_bundle(
        directory / order.output,
        {"returns": evaluation.returns, "lengths": evaluation.lengths},
        EvaluateResult(order_sha256=order_digest(order), episodes=len(evaluation.returns)),
    )


def _probe(learner: Learner, order: ProbeOrder, directory: Path) -> FileRef:
    found = learner.probe(order, _read(directory, order.model), _read(directory, order.updates))
    return write_bundle(
        directory / order.output,
        {"divergences": found.divergences},
        ProbeResult(order_sha256=order_digest(order), measure=found.measure, samples=order.samples),
    )


def _export(learner: Learner, order: ExportOrder, directory: Path) -> dict[str, str]:
    learner.export(order, _read(directory, order.model), directory)
    names = [name for name in (order.output, order.normalizer_output) if name is not None]
    return {name: sha256_file(directory / name, MAX_FILE_BYTES) for name in names}


def _read(directory: Path, reference: FileRef) -> Tensors:
    return _bundle(directory, reference).tensors


def _bundle(directory: Path, reference: FileRef) -> Bundle:
    path = directory / os.fspath(reference.name)
    return read_bundle(path, max_bytes=reference.bytes, sha256=reference.sha256)
