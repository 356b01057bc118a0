"""TensorBoard files, written with TensorBoard's own records and without torch or TensorFlow.

`tensorboard.summary.Writer` would import TensorFlow where it is installed, which costs seconds, and
starts a thread; a file of records needs neither. The package is imported with the first row.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from requestor.reporting.event_log import TimedEvent
from requestor.reporting.metrics import MetricsRow, RoundMetrics
from requestor.training_run.events import Event

ROUND_TAG = "fed/round"
STEP_TAG = "time/total_timesteps"
_MAX_RECORD_BYTES = 1 << 20


class TensorBoardLog:
    """An `Observer` that writes the metrics rows as scalars over environment steps.

    Every process writes a file of its own; rounds that are in the folder's files are left out.
    """

    def __init__(self, folder: Path, history: Iterable[TimedEvent] = ()) -> None:
        """Write into `folder`; rounds that `history` has and the files lack are added."""
        self._folder = folder
        self._file: BinaryIO | None = None
        self._written: set[int] | None = None
        self._is_closed = False
        self._metrics = RoundMetrics()
        for unix_seconds, event in history:
            self.on_event(event, unix_seconds)

    def on_event(self, event: Event, unix_seconds: float) -> None:
        """Write the scalars of a round that is complete."""
        for row in self._metrics.apply(event, unix_seconds):
            if not self._is_closed:
                self._write(row)

    def close(self) -> None:
        """Close the file."""
        self._is_closed = True
        if self._file is not None:
            self._file.close()
            self._file = None

    def _write(self, row: MetricsRow) -> None:
        if self._written is None:
            self._written = rounds_in(self._folder)
        number = int(row[ROUND_TAG])
        if number in self._written:
            return
        if self._file is None:
            self._file = _new_file(self._folder, row["unix_seconds"])
        self._file.write(_record(_scalars(row)))
        self._file.flush()
        self._written.add(number)


def rounds_in(folder: Path) -> set[int]:
    """Return the rounds that TensorBoard files in `folder` hold; a torn record ends its file."""
    paths = sorted(folder.glob("events.out.tfevents.*")) if folder.is_dir() else []
    return {
        round(_value(value))
        for path in paths
        for data in _records(path)
        for value in _event_type().FromString(data).summary.value
        if value.tag == ROUND_TAG
    }


def _value(value: Any) -> float:
    # TensorBoard itself stores a scalar as a tensor, we and others as a simple value.
    stored = value.tensor.float_val[0] if value.tensor.float_val else value.simple_value
    return float(stored)


def _new_file(folder: Path, unix_seconds: float) -> BinaryIO:
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"events.out.tfevents.{int(unix_seconds):010d}.derl.{os.getpid()}"
    number = 0
    while True:
        try:
            file = (folder / f"{stem}.{number}").open("xb")
            break
        except FileExistsError:
            number += 1
    event = _event_type()(wall_time=unix_seconds, file_version="brain.Event:2")
    file.write(_record(event.SerializeToString()))
    return file


def _scalars(row: MetricsRow) -> bytes:
    event = _event_type()(wall_time=row["unix_seconds"], step=int(row[STEP_TAG]))
    for name, value in row.items():
        if name != "unix_seconds":
            event.summary.value.add(tag=name, simple_value=value)
    return bytes(event.SerializeToString())


def _record(data: bytes) -> bytes:
    header = struct.pack("<Q", len(data))
    return header + _checksum(header) + data + _checksum(data)


def _records(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while len(header := file.read(12)) == 12:
            size = int(struct.unpack("<Q", header[:8])[0])
            if size > _MAX_RECORD_BYTES or header[8:] != _checksum(header[:8]):
                return
            data = file.read(size)
            if len(data) != size or file.read(4) != _checksum(data):
                return
            yield data


def _checksum(data: bytes) -> bytes:
    from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import (  # type: ignore[import-untyped]
        masked_crc32c,
    )

    return struct.pack("<I", masked_crc32c(data))


def _event_type() -> Any:
    from tensorboard.compat.proto.event_pb2 import (  # type: ignore[import-untyped]
        Event as Record,
    )

    return Record
