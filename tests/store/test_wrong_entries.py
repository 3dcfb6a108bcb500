"""Plans, code objects and tuning files that are not what their names and hashes promise."""

import functools
import json
import os
import zlib
from pathlib import Path

import pytest
from click.testing import CliRunner

from jax_aiter.bind import tuning
from jax_aiter.cli.kernels import kernels
from jax_aiter.core.errors import KernelBuildError, NotSupportedError
from jax_aiter.kernels import cache
from jax_aiter.kernels.call import CUSTOM_CALL_TARGETS

from .auto import lowered, planned
from .hostile import everything

pytestmark = pytest.mark.usefixtures("afresh", "no_package")


def _changed(change):
    def write(path: Path) -> None:
        body = cache.read_entry(path)
        cache.write_entry(path, change(json.loads(json.dumps(body))))

    return write


def _step(**fields):
    def change(body):
        body["record"]["steps"][0].update(fields)
        return body

    return change


def _without(*keys):
    def change(body):
        inner = functools.reduce(lambda found, key: found[key], keys[:-1], body)
        del inner[keys[-1]]
        return body

    return change


def _set(*keys_and_value):
    *keys, value = keys_and_value

    def change(body):
        inner = functools.reduce(lambda found, key: found[key], keys[:-1], body)
        inner[keys[-1]] = value
        return body

    return change


#: right hash, wrong content.
WRONG = {
    "null": lambda body: None,
    "list": lambda body: [],
    "text": lambda body: "record",
    "nothing": lambda body: {},
    "no spec": _without("spec"),
    "another op's": _set("spec", "op", "layer_norm"),
    "another shape's": _set("spec", "operands", 0, 1, 0, 5),
    "another eps": _set("spec", "params", "epsilon", 1e-5),
    "refused with no text": lambda body: {"spec": None, "refused": 3},
    "no record": _without("record"),
    "record is a list": _set("record", []),
    "no steps": _without("record", "steps"),
    "steps are a number": _set("record", "steps", 3),
    "no buffers": _set("record", "buffers", []),
    "larger buffers": _set("record", "buffers", 0, "nbytes", 1 << 40),
    "negative buffers": _set("record", "buffers", 0, "nbytes", -1),
    "a kind of buffer": _set("record", "buffers", 0, "kind", "file"),
    "an operand that is not": _set("record", "buffers", 0, "index", 99),
    "other arch": _set("record", "arch", "gfx950"),
    "a step that is none": _step(step="open"),
    "a pointer beyond": _step(args=[["ptr", 0, 1 << 50]]),
    "a pointer to no buffer": _step(args=[["ptr", 77, 0]]),
    "an argument that is none": _step(args=[["path", "/etc/passwd"]]),
    "a grid of text": _step(grid=["x"]),
    "a grid of too much": _step(grid=[1 << 40, 1, 1]),
    "a negative grid": _step(grid=[-1, 1, 1]),
    "threads": _step(threads="many"),
    "shared": _step(shared=-5),
    "a code that is not there": _step(code="0" * 64),
    "a code elsewhere": _step(code="../../../../../etc/passwd"),
    "a code that is a device": _step(code="/dev/zero"),
    "a code that is a number": _step(code=5),
    "a symbol that is a number": _step(symbol=5),
    "an alias to nothing": _set("record", "aliases", [[9, 9]]),
}


@pytest.mark.usefixtures("no_triton")
@pytest.mark.parametrize("what", WRONG)
def test_a_plan_with_a_right_hash_and_wrong_content(what, tmp_path, monkeypatch):
    root = planned(tmp_path)
    monkeypatch.setenv("JAX_AITER_CACHE", str(root))
    assert CUSTOM_CALL_TARGETS[0] in lowered(None, "rms_norm"), "it runs as long as it is right"
    (path,) = (root / "plans").rglob("*.json")
    _changed(WRONG[what])(path)
    before = everything(root)
    with pytest.raises((NotSupportedError, KernelBuildError)):
        lowered("triton", "rms_norm")
    with pytest.warns(RuntimeWarning):
        assert CUSTOM_CALL_TARGETS[0] not in lowered(None, "rms_norm")
    for command in (["list"], ["verify"]):
        done = CliRunner().invoke(kernels, command)
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    assert {k: v for k, v in everything(root).items() if not k.startswith("locks")} == {
        k: v for k, v in before.items() if not k.startswith("locks")
    }


@pytest.mark.parametrize("what", ["a bomb", "a pipe", "a folder", "endless", "a terabyte", "cut", "longer"])
def test_a_code_object_that_is_not_one_counts_as_absent(what, tmp_path):
    root, code = tmp_path / "cache", b"code" * 1000
    name = cache.put_code(root, code)
    path = root / "code" / name
    good = path.read_bytes()
    path.unlink()
    if what == "a bomb":
        encoder = zlib.compressobj(9)
        path.write_bytes(
            b"".join([*(encoder.compress(bytes(1 << 26)) for _ in range(3)), encoder.flush()])
        )  # three times what is read
    else:
        {
            "a pipe": lambda: os.mkfifo(path),
            "a folder": path.mkdir,
            "endless": lambda: path.symlink_to("/dev/zero"),
            "a terabyte": lambda: (path.write_bytes(good), os.truncate(path, 1 << 40)),
            "cut": lambda: path.write_bytes(good[:-4]),
            "longer": lambda: path.write_bytes(zlib.compress(code + b"x")),
        }[what]()
    assert cache.get_code(root, name) is None
    if what != "a folder":
        assert cache.put_code(root, code) == name
        assert cache.get_code(root, name) == code


@pytest.mark.parametrize("what", ["nests", "a pipe", "endless", "a folder", "a terabyte", "no text", "~nosuchuser"])
def test_a_tuning_file_that_cannot_be_used_is_ignored_and_said_so(what, tmp_path, monkeypatch):
    path = tmp_path / "tune.json"
    {
        "nests": lambda: path.write_bytes(b"[" * 1_000_000),
        "a pipe": lambda: os.mkfifo(path),
        "endless": lambda: path.symlink_to("/dev/zero"),
        "a folder": path.mkdir,
        "a terabyte": lambda: (path.write_bytes(b"{"), os.truncate(path, 1 << 40)),
        "no text": lambda: path.write_bytes(b"\xff\xfe\0"),
        "~nosuchuser": lambda: None,
    }[what]()
    named = "~jax_aiter_no_such_user/tune.json" if what == "~nosuchuser" else str(path)
    monkeypatch.setenv("JAX_AITER_TUNE", named)
    with pytest.warns(RuntimeWarning, match="ignores the tuning file"):
        assert tuning.entries(tuning.tune_file("gfx942")) == {}
