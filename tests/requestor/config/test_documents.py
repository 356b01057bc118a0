"""YAML, TOML and overrides as plain mappings."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from requestor.config.documents import Document, apply_overrides, parse_yaml, read_document
from requestor.errors import ConfigError


def overridden(text: str, *overrides: str) -> tuple[Document, list[str]]:
    document = parse_yaml(text, "x.yaml")
    return document, apply_overrides(document, overrides)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3e-4", 3e-4),
        ("1e5", 1e5),
        ("-2E+3", -2000.0),
        ("1.5e3", 1500.0),
        ("!!float 1e5", 1e5),
        ("20_000", 20_000),
        ("0.1", 0.1),
        ("true", True),
        ("e5", "e5"),
        ("1e", "1e"),
        ("lin_3e-4", "lin_3e-4"),
        ("null", None),
    ],
)
def test_numbers_are_read_as_people_write_them(text: str, value: object) -> None:
    read = parse_yaml(f"key: {text}", "x.yaml").data["key"]
    assert read == value
    assert type(read) is type(value)


def test_every_key_knows_its_line() -> None:
    document = parse_yaml("a:\n  b: 1\n  c:\n    - d: 2\n", "x.yaml")
    assert document.origin(("a", "b")) == "line 2"
    assert document.origin(("a", "c", 0, "d")) == "line 4"
    assert document.origin(("a", "unwritten")) == "line 1"
    assert document.origin(("z",)) == ""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", r"'a' is given twice \(line 3, column 1\)"),
        ("a: [1\n", r"not valid YAML: .* \(line 2"),
        ("- 1\n", "must hold sections like `env:`, is list"),
        ("just text", "must hold sections"),
        ("a: !!python/object/apply:os.system [x]\n", "could not determine a constructor"),
        ("a: !!python/name:os.system\n", "could not determine a constructor"),
        ("a: 2001-99-99\n", "not valid YAML"),
        ("a: \x01\n", "not valid YAML"),
        ("[" * 5000, "not valid YAML"),
    ],
)
def test_what_is_no_config_is_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_yaml(text, "x.yaml")


def test_an_empty_file_is_an_empty_mapping() -> None:
    assert parse_yaml("# nothing\n", "x.yaml").data == {}


def test_toml_is_read_by_its_suffix(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_text("[env]\nid = 'CartPole-v1'\n")
    assert read_document(path).data == {"env": {"id": "CartPole-v1"}}
    path.write_text("[env\n")
    with pytest.raises(ConfigError, match=r"not valid TOML: .*line 1"):
        read_document(path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.yaml", None, "no such file"),
        ("x.json", b"{}", "unknown kind of file"),
        ("x.yaml", b"\xff\xfe\x00", "cannot be read"),
        ("x.yaml", b"#" * (1 << 20) + b"#", "larger than"),
    ],
)
def test_files_that_cannot_be_read_say_why(
    tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=message) as caught:
        read_document(path)
    assert str(path) in str(caught.value)


def test_a_folder_is_not_a_config(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_document(tmp_path)


def test_overrides_write_yaml_values_and_make_sections() -> None:
    document, problems = overridden(
        "env: {id: A, n_envs: 1}\ngolem:\n",
        "env.n_envs=4",
        "algo.learning_rate=3e-4",
        "golem.max_price.hour_glm=0.5",
        "algo.policy_kwargs={net_arch: [32, 32]}",
        "name=a=b",
        "seed=",
        "env.n_envs=8",
    )
    assert problems == []
    assert document.data == {
        "env": {"id": "A", "n_envs": 8},
        "golem": {"max_price": {"hour_glm": 0.5}},
        "algo": {"learning_rate": 3e-4, "policy_kwargs": {"net_arch": [32, 32]}},
        "name": "a=b",
        "seed": None,
    }
    assert document.origin(("env", "n_envs")) == "override"
    assert document.origin(("env", "id")) == "line 1"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("env.n_envs", "must be key=value"),
        ("=3", "must be key=value"),
        ("env..n_envs=3", "must be key=value"),
        ("env.id.x=3", "env.id is 'A', which has no keys"),
        ("seed=[", "is not valid YAML"),
        ("seed=!!python/name:os.system", "is not valid YAML"),
    ],
)
def test_overrides_that_cannot_be_applied_are_told(override: str, message: str) -> None:
    document, problems = overridden("env: {id: A}", override, "seed=1")
    assert len(problems) == 1
    assert message in problems[0]
    assert override in problems[0]
    assert document.data == {"env": {"id": "A"}, "seed": 1}


@given(st.text(max_size=80) | st.text("abc:[]{}&*!|>-#'\" \n\t", max_size=80))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        assert isinstance(parse_yaml(text, "x.yaml").data, dict)
    except ConfigError as error:
        assert str(error).startswith("x.yaml: ")


@given(st.text(max_size=40))
def test_any_override_is_applied_or_told(override: str) -> None:
    document = Document("x.yaml", {"env": {"id": "A"}})
    problems = apply_overrides(document, [override])
    assert len(problems) <= 1
    if problems:
        assert document.data == {"env": {"id": "A"}}
