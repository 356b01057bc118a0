"""Nothing in what we ship can turn data into code."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = sorted(
    path
    for package in ("requestor", "provider_image", "native_kernels", "gvmi")
    for path in (ROOT / package).rglob("*.py")
)
FORBIDDEN = {
    "eval",
    "exec",
    "compile",
    "pickle.load",
    "pickle.loads",
    "pickle.Unpickler",
    "torch.load",
    "np.load",
    "numpy.load",
    "yaml.full_load",
    "yaml.unsafe_load",
    "os.system",
    "VecNormalize.load",
    "load_from_pkl",
    "load_from_zip_file",
}


def loads_tensors_only(call: ast.Call) -> bool:
    """True for `torch.load(…, weights_only=True)`, which reads tensors and runs nothing."""
    return ast.unparse(call.func) == "torch.load" and any(
        keyword.arg == "weights_only" and ast.unparse(keyword.value) == "True"
        for keyword in call.keywords
    )


def dangerous_calls(source: str) -> list[str]:
    """Calls of what runs text or objects as code, and shells started by subprocess."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            is_forbidden = name in FORBIDDEN or any(
                name.endswith(f".{f}") for f in FORBIDDEN if "." in f
            )
            if is_forbidden and not loads_tensors_only(node):
                found.append(f"line {node.lineno}: {name}")
            if any(
                keyword.arg == "shell" and ast.unparse(keyword.value) != "False"
                for keyword in node.keywords
            ):
                found.append(f"line {node.lineno}: {name} with a shell")
            if name == "yaml.load" and "Loader" not in ast.unparse(node):
                found.append(f"line {node.lineno}: {name} without a safe loader")
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_read_can_become_code(path: Path) -> None:
    assert dangerous_calls(path.read_text()) == []


@pytest.mark.parametrize(
    "source",
    [
        "eval(x)",
        "exec(x)",
        "import pickle\npickle.loads(x)",
        "torch.load(f, weights_only=False)",
        "np.load(f)",
        "yaml.unsafe_load(f)",
        "yaml.load(f)",
        "subprocess.run(x, shell=True)",
        "os.system(x)",
        "sb3.VecNormalize.load(f, env)",
    ],
)
def test_the_check_sees(source: str) -> None:
    assert dangerous_calls(source)


@pytest.mark.parametrize(
    "source",
    [
        "re.compile(x)",
        "json.load(f)",
        "yaml.load(f, _Loader)",
        "torch.load(f, weights_only=True)",
    ],
)
def test_the_check_lets_pass(source: str) -> None:
    assert dangerous_calls(source) == []
