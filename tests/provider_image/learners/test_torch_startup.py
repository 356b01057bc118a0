"""Training does not import torch's compiler, and whoever asks for it gets it."""

from __future__ import annotations

import subprocess
import sys

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
