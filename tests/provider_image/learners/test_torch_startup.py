"""Training does not import torch's compiler, and whoever asks for it gets it."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from provider_image.learners.torch_startup import exact_root, exact_root_in_place

OPTIMISE = """
import sys, torch
from provider_image.learners.torch_startup import prepare_torch
prepare_torch()
parameter = torch.nn.Parameter(torch.ones(3))
optimizer = torch.optim.Adam([parameter], lr=0.5)
optimizer.zero_grad(); parameter.sum().backward(); optimizer.step()
values = [round(value, 4) for value in parameter.tolist()]
print("torch._dynamo.eval_frame" in sys.modules, values, torch.get_num_threads())
"""
COMPILE = (
    OPTIMISE
    + """
double = torch.compile(lambda x: 2 * x, backend="eager")
print("torch._dynamo.eval_frame" in sys.modules, double(torch.ones(2)).tolist())
import torch._dynamo.config
"""
)


def output(program: str) -> list[str]:
    """The lines a fresh interpreter prints."""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()


def test_an_optimizer_steps_without_the_compiler() -> None:
    assert output(OPTIMISE) == ["False [0.5, 0.5, 0.5] 1"]


def test_the_compiler_comes_when_it_is_asked_for() -> None:
    assert output(COMPILE)[1:] == ["True [2.0, 2.0]"]


SHAPES = st.sampled_from([(), (0,), (7,), (3, 5)])
FLOATS = st.floats(0, width=32, allow_nan=False)


@given(arrays(np.float32, SHAPES, elements=FLOATS))
def test_roots_are_rounded_correctly(values: np.ndarray) -> None:
    # float64 has more than 2 * 24 + 2 digits: its root, rounded once more, is the nearest float32
    expected = np.sqrt(values.astype(np.float64)).astype(np.float32)
    tensor = torch.from_numpy(values.copy())
    np.testing.assert_array_equal(exact_root(tensor).numpy(), expected)
    np.testing.assert_array_equal(tensor.numpy(), values)
    np.testing.assert_array_equal(exact_root_in_place(tensor).numpy(), expected)
    np.testing.assert_array_equal(tensor.numpy(), expected)


def test_roots_of_steps_are_exact_and_those_with_gradients_are_torchs_own() -> None:
    program = (
        OPTIMISE
        + """
import numpy as np
x = torch.linspace(0.01, 3, 1001)
print(bool((x[::2].sqrt().numpy() == np.sqrt(x[::2].numpy())).all()))
print(bool(torch.isnan((-x).sqrt()).all()))
y = torch.tensor(4.0, requires_grad=True)
y.sqrt().backward()
print(y.grad.item())
"""
    )
    assert output(program)[1:] == ["True", "True", "0.25"]
