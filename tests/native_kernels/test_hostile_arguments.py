"""Every public kernel refuses unfit arguments by name, and dies of none."""

import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from native_kernels import advantages, aggregation, codecs
from native_kernels.environments import BatchEnvironment
from native_kernels.ppo import PolicyShape, Ppo, PpoSettings, Rollout

Array = NDArray[Any]


@dataclass(frozen=True)
class Kernel:
    """A call with arguments that fit; arrays are what the tests spoil."""

    call: Callable[..., object]
    arguments: dict[str, Any]

    @property
    def arrays(self) -> list[str]:
        return [name for name, value in self.arguments.items() if isinstance(value, np.ndarray)]


def f32(*shape: int) -> NDArray[np.float32]:
    size = int(np.prod(shape))
    return np.linspace(-1.0, 1.0, size, dtype=np.float32).reshape(shape)


def f64(*shape: int) -> NDArray[np.float64]:
    return np.abs(f32(*shape)).astype(np.float64) + 0.5


CATEGORICAL = PolicyShape(4, 2, "categorical", pi=(8,), vf=(8,))
GAUSSIAN = PolicyShape(3, 2, "gaussian", pi=(8,), vf=(8,))


def ppo(shape: PolicyShape = CATEGORICAL) -> Ppo:
    return Ppo(shape, f32(shape.parameter_count))


def update(shape: PolicyShape = CATEGORICAL, *, order: Array, **arrays: Array) -> object:
    return ppo(shape).update(Rollout(**arrays), PpoSettings(n_epochs=1), order=order)


def gradient(indices: Array, **arrays: Array) -> object:
    return ppo().gradient(Rollout(**arrays), PpoSettings(), indices)


def stepped(id: str) -> BatchEnvironment:
    environment = BatchEnvironment(id, 6)
    environment.reset()
    return environment


ROLLOUT = {
    "observations": f32(5, 3, 4),
    "actions": np.zeros((5, 3), np.int64),
    "log_probs": f32(5, 3),
    "values": f32(5, 3),
    "advantages": f32(5, 3),
    "returns": f32(5, 3),
}
TRACE = {
    "rewards": f32(5, 3),
    "episode_starts": np.zeros((5, 3), bool),
    "last_values": f32(3),
    "last_dones": np.zeros(3, bool),
}
INT8 = codecs.Codec("int8")
KERNELS = {
    "weighted_mean": Kernel(aggregation.weighted_mean, {"updates": f32(4, 7), "weights": f64(4)}),
    "merge_moments": Kernel(
        aggregation.merge_moments,
        {"means": f64(4, 3), "variances": f64(4, 3), "counts": f64(4)},
    ),
    "sample_moments": Kernel(aggregation.sample_moments, {"samples": f32(4, 3)}),
    "coordinate_median": Kernel(aggregation.coordinate_median, {"updates": f32(5, 7)}),
    "trimmed_mean": Kernel(aggregation.trimmed_mean, {"updates": f32(5, 7), "trim": 1}),
    "squared_distances": Kernel(aggregation.squared_distances, {"updates": f32(5, 7)}),
    "krum_scores": Kernel(aggregation.krum_scores, {"distances": f64(5, 5), "faulty": 1}),
    "norms": Kernel(aggregation.norms, {"updates": f32(5, 7)}),
    "clip_norms": Kernel(aggregation.clip_norms, {"updates": f32(5, 7), "limit": 1.0}),
    "geometric_median": Kernel(
        aggregation.geometric_median, {"updates": f32(5, 7), "weights": f64(5), "start": f32(7)}
    ),
    "generalized_advantages": Kernel(
        advantages.generalized_advantages,
        {**TRACE, "values": f32(5, 3), "gamma": 0.9, "gae_lambda": 0.9},
    ),
    "discounted_returns": Kernel(advantages.discounted_returns, {**TRACE, "gamma": 0.9}),
    "encode": Kernel(codecs.encode, {"update": f32(300), "codec": INT8}),
    "encode_with_feedback": Kernel(
        codecs.encode_with_feedback, {"update": f32(300), "residual": f32(300), "codec": INT8}
    ),
    "to_halves": Kernel(codecs.to_halves, {"x": f32(9)}),
    "from_halves": Kernel(codecs.from_halves, {"halves": np.arange(9, dtype=np.uint16)}),
    "Ppo": Kernel(
        lambda parameters: Ppo(CATEGORICAL, parameters),
        {"parameters": f32(CATEGORICAL.parameter_count)},
    ),
    "act": Kernel(ppo().act, {"observations": f32(6, 4), "seed": 1, "step": 0}),
    "values": Kernel(ppo().values, {"observations": f32(6, 4)}),
    "best_actions": Kernel(ppo(GAUSSIAN).best_actions, {"observations": f32(6, 3)}),
    "load_optimizer_state": Kernel(
        ppo().load_optimizer_state,
        {
            "step": 3,
            "exp_avg": f32(CATEGORICAL.parameter_count),
            "exp_avg_sq": np.abs(f32(CATEGORICAL.parameter_count)),
        },
    ),
    "update": Kernel(update, {**ROLLOUT, "order": np.arange(15, dtype=np.int64)[np.newaxis]}),
    "update gaussian": Kernel(
        partial(update, GAUSSIAN),
        {
            **ROLLOUT,
            "observations": f32(5, 3, 3),
            "actions": f32(5, 3, 2),
            "order": np.arange(15, dtype=np.int64)[np.newaxis],
        },
    ),
    "gradient": Kernel(gradient, {**ROLLOUT, "indices": np.arange(4, dtype=np.int64)}),
    "set_states": Kernel(stepped("CartPole-v1").set_states, {"states": f64(6, 4)}),
    "step": Kernel(
        lambda actions: stepped("CartPole-v1").step(actions),
        {"actions": np.zeros(6, np.int64)},
    ),
    "step continuous": Kernel(
        lambda actions: stepped("Pendulum-v1").step(actions), {"actions": f32(6, 1)}
    ),
}
ARGUMENTS = [(name, array) for name, kernel in KERNELS.items() for array in kernel.arrays]
FLOATS = [
    (name, array) for name, array in ARGUMENTS if KERNELS[name].arguments[array].dtype.kind == "f"
]


def misaligned(x: Array) -> Array:
    memory = np.zeros(x.nbytes + 1, np.uint8)
    shifted = memory[1:].view(x.dtype).reshape(x.shape)
    shifted[...] = x
    return shifted


def spread(x: Array) -> Array:
    wide = np.zeros((*x.shape, 2), x.dtype)
    wide[..., 0] = x
    return wide[..., 0]


SPOILED: dict[str, Callable[[Array], Any]] = {
    "another precision": lambda x: x.astype(np.float16),
    "complex": lambda x: x.astype(np.complex64),
    "objects": lambda x: x.astype(object),
    "text": lambda x: x.astype("U8"),
    "foreign byte order": lambda x: (
        x.astype(x.dtype.newbyteorder(">")) if x.itemsize > 1 else x.astype(np.int16)
    ),
    "one axis more": lambda x: x[np.newaxis],
    "no axis": lambda x: x.reshape(-1)[0:1].reshape(()),
    "gaps": spread,
    "reversed": lambda x: x[..., ::-1],
    "misaligned": lambda x: misaligned(x) if x.itemsize > 1 else spread(x),
    "a list": lambda x: x.tolist(),
    "nothing at all": lambda x: None,
    "a string": lambda x: "updates",
    "one row more": lambda x: np.concatenate([x, x[:1]]),
}
ANY_ROWS = {
    "coordinate_median", "trimmed_mean", "squared_distances", "norms", "clip_norms",
    "sample_moments", "encode", "to_halves", "from_halves", "act", "values", "best_actions",
    "gradient indices",
}  # fmt: skip
OPTIONAL = {"order", "start"}


def fits(kernel: str, argument: str, spoiled: str) -> bool:
    if spoiled == "one row more":
        return kernel in ANY_ROWS or f"{kernel} {argument}" in ANY_ROWS
    if kernel == "krum_scores":  # NumPy reads it, in any order
        return spoiled in ("gaps", "reversed", "misaligned")
    if argument == "actions" and kernel == "step continuous":  # one column: reversed, it is itself
        return spoiled == "reversed"
    return spoiled == "nothing at all" and argument in OPTIONAL


@pytest.mark.parametrize("spoiled", SPOILED)
@pytest.mark.parametrize(("kernel", "argument"), ARGUMENTS)
def test_an_unfit_array_is_refused_by_name(kernel: str, argument: str, spoiled: str) -> None:
    subject = KERNELS[kernel]
    arguments = dict(subject.arguments)
    arguments[argument] = SPOILED[spoiled](arguments[argument])
    if fits(kernel, argument, spoiled):
        subject.call(**arguments)
        return
    with pytest.raises((TypeError, ValueError)) as raised:
        subject.call(**arguments)
    assert argument in str(raised.value), raised.value


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3.4e38, 1e-45])
@pytest.mark.parametrize(("kernel", "argument"), FLOATS)
def test_no_number_is_too_odd(kernel: str, argument: str, value: float) -> None:
    """A result or a named error; which one is for the kernels' own tests to say."""
    subject = KERNELS[kernel]
    array = subject.arguments[argument].copy()
    for spoiled in (array.copy(), array):
        spoiled.reshape(-1)[:: 1 if spoiled is array else spoiled.size] = value
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)
                subject.call(**{**subject.arguments, argument: spoiled})
        except (ValueError, FloatingPointError) as error:
            assert str(error)


@pytest.mark.parametrize(("kernel", "argument"), ARGUMENTS)
def test_read_only_arrays_are_read(kernel: str, argument: str) -> None:
    subject = KERNELS[kernel]
    frozen = subject.arguments[argument].copy()
    frozen.setflags(write=False)
    before = frozen.tobytes()
    subject.call(**{**subject.arguments, argument: frozen})
    assert frozen.tobytes() == before


@pytest.mark.parametrize(("kernel", "argument"), ARGUMENTS)
@pytest.mark.parametrize("axis", [0, -1])
def test_an_empty_array_gives_nothing_or_is_refused(kernel: str, argument: str, axis: int) -> None:
    subject = KERNELS[kernel]
    array = subject.arguments[argument]
    empty = np.ascontiguousarray(np.take(array, [], axis=axis))
    try:
        subject.call(**{**subject.arguments, argument: empty})
    except (TypeError, ValueError) as error:
        assert str(error)


@pytest.mark.parametrize(
    ("kernel", "argument", "number"),
    [
        ("trimmed_mean", "trim", 2**62), ("trimmed_mean", "trim", -1), ("trimmed_mean", "trim", 3),
        ("krum_scores", "faulty", 2**40), ("krum_scores", "faulty", -1),
        ("clip_norms", "limit", np.nan), ("clip_norms", "limit", 0.0),
        ("geometric_median", "iterations", -1), ("geometric_median", "smoothing", np.nan),
        ("generalized_advantages", "gamma", np.nan), ("generalized_advantages", "gae_lambda", 1.5),
        ("discounted_returns", "gamma", -0.1),
        ("coordinate_median", "threads", 0), ("norms", "threads", -(2**31)),
        ("squared_distances", "threads", 2**31 - 1), ("coordinate_median", "threads", 2**63),
        ("load_optimizer_state", "step", -1), ("act", "seed", -1), ("act", "step", 2**64),
        ("encode", "seed", -1),
    ],
)  # fmt: skip
def test_an_unfit_number_is_refused_by_name(kernel: str, argument: str, number: float) -> None:
    subject = KERNELS[kernel]
    with pytest.raises((TypeError, ValueError), match=argument):
        subject.call(**{**subject.arguments, argument: number})


@pytest.mark.parametrize("count", [2**30, 2**31, 2**62, 2**64, -1])
@pytest.mark.parametrize("name", ["int8", "int4", "fp16"])
def test_a_decoder_asks_for_no_memory_that_the_payload_does_not_pay_for(
    name: str, count: int
) -> None:
    codec = codecs.Codec(name)  # type: ignore[arg-type]
    payload = codecs.encode(f32(300), codec)
    with pytest.raises((codecs.CodecError, TypeError, OverflowError)):
        codecs.decode(payload, codec, count)


HUGE = """
import numpy as np
from native_kernels import aggregation
from native_kernels.environments import BatchEnvironment
from native_kernels.ppo import PolicyShape, Ppo
from native_kernels.rollouts import Collector
shape = PolicyShape(4, 2, "categorical")
collector = Collector(
    Ppo(shape, np.zeros(shape.parameter_count, np.float32)), BatchEnvironment("CartPole-v1", 4),
    seed=0)
# views of one number, huge only in name: they have no C order
wide = np.broadcast_to(np.float32(1), (4000, 2**40))
calls = {
    "environments": lambda: BatchEnvironment("CartPole-v1", 2**31),
    "steps": lambda: collector.collect(2**40, gamma=0.9, gae_lambda=0.9),
    "columns": lambda: aggregation.norms(wide),
    "columns of a median": lambda: aggregation.coordinate_median(wide),
    "rows": lambda: aggregation.squared_distances(np.zeros((2**20, 0), np.float32)),
    "width": lambda: PolicyShape(4, 2, "categorical", pi=(2**31,)),
    "observations": lambda: PolicyShape(2**40, 2, "categorical").parameter_count,
    "actions": lambda: PolicyShape(4, 2**40, "categorical").parameter_count,
}
for name, call in calls.items():
    try:
        call()
        print(name, "fits")
    except (ValueError, TypeError, MemoryError) as error:
        print(name, type(error).__name__, error)
"""


def test_huge_numbers_are_refused_by_name_and_kill_nothing() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", HUGE], capture_output=True, text=True, timeout=100, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert "fits" not in ran.stdout
    assert len(ran.stdout.splitlines()) == 8, ran.stdout
    assert "count: must be from 1 to" in ran.stdout and "n_steps: must be from 1" in ran.stdout


def test_steps_of_the_same_object_at_once_do_no_harm() -> None:
    """Threads that share a policy get results or a named error, and the process lives."""
    program = """
import threading
import numpy as np
from native_kernels.ppo import PolicyShape, Ppo, PpoSettings, Rollout
shape = PolicyShape(4, 2, "categorical")
ppo = Ppo(shape, np.linspace(-1, 1, shape.parameter_count, dtype=np.float32), threads=2)
flat = np.linspace(-1, 1, 2000, dtype=np.float32).reshape(500, 4)
rollout = Rollout(np.repeat(flat, 4, axis=1).reshape(500, 4, 4), np.zeros((500, 4), np.int64),
                  flat, flat, flat, flat)
errors = []
def work():
    try:
        for _ in range(3):
            ppo.update(rollout, PpoSettings(n_epochs=1))
            ppo.act(flat, seed=0, step=0)
            ppo.parameters
    except RuntimeError as error:
        errors.append(str(error))
threads = [threading.Thread(target=work) for _ in range(3)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print("lives")
"""
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=100, check=False
    )
    assert (ran.returncode, ran.stdout) == (0, "lives\n"), ran.stderr
