"""Names that come from outside are printed so that no terminal acts on them: no escape, no bell, no turned or hidden text."""

import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from click.testing import CliRunner

from jax_aiter.cli.kernels import kernels
from jax_aiter.cli.main import cli
from jax_aiter.core.errors import KernelBuildError
from jax_aiter.core.text import one_line, printable
from jax_aiter.kernels import cache, store
from jax_aiter.kernels.store.location import entry

from .hostile import TOP, aiter, regular, tar

ESCAPES = ["\x1b[31mred", "\x1b]0;title\x07", "\x9b31m", "\x1b[2J\x1b[H", "a\rb", "a\bb", "\x7f", "\u202egnp.exe",
           "\u2066x", "\u200bx", "\ufeff",
           "\udcff\udcfe", "\x00", "\U000e0041", "\x1bP+q\x1b\\", "\u2028next"]  # fmt: skip
CONTROLS = {*map(chr, range(32)), *map(chr, range(127, 160))} - {"\n", "\t"}
FORBIDDEN = CONTROLS | {*"\u202e\u2066\u200b\ufeff\U000e0041\u2028\udcff"}


def clean(text: str) -> bool:
    return not FORBIDDEN & set(text)


@pytest.mark.parametrize("text", ESCAPES, ids=ascii)
def test_what_would_act_on_a_terminal_is_spelled_out(text):
    assert not clean(text)
    assert clean(printable(f"before {text} after"))
    assert printable(text).encode()
    for kind in (cache.CacheError, cache.DamagedError, store.SourceError, store.VerificationError, KernelBuildError):
        assert clean(str(kind(f"file {text}")))
    assert clean(one_line(f"a\n\t{text}"))
    assert "\n" not in one_line(f"a\n{text}")


@pytest.mark.parametrize("text", ["plain", "ünïcødé 日本語 🙂", "two\nlines\tand a tab", "C:\\path", ""])
def test_what_a_terminal_only_shows_is_left_as_it_is(text):
    assert printable(text) == text


def _commands(name: str) -> list[list[str]]:
    return [
        ["add", name],
        ["build", "--arch", name],
        ["build", "--arch", "gfx942", "--ops", name],
        ["build", "--arch", "gfx942", "--shapes", name],
        [name],
        ["add", name, f"--{name}"],
    ]


@pytest.mark.parametrize("text", [t for t in ESCAPES if "\x00" not in t], ids=ascii)
@pytest.mark.parametrize("group", [kernels, cli])
def test_arguments_are_not_printed_raw(text, group, root):
    for command in _commands(text):
        done = CliRunner().invoke(group, command if group is kernels else ["kernels", *command])
        assert done.exit_code
        assert done.exception is None or isinstance(done.exception, SystemExit), (command, done.exception)
        assert clean(done.output), (command, done.output)


@pytest.mark.parametrize("text", [t for t in ESCAPES if "\x00" not in t], ids=ascii)
def test_names_in_archives_folders_and_caches_are_not_printed_raw(text, root, hashes, checkout, tmp_path, monkeypatch):
    path = tmp_path / f"archive {text}"
    path.write_bytes(tar([*aiter(), regular(f"{TOP}/aiter/ops/triton/{text}.py", b"x")], tarfile.PAX_FORMAT)[:-3000])
    (checkout / f"aiter/ops/triton/{text}.py").write_bytes(b"")
    here = tmp_path / f"cache {text}"
    monkeypatch.setenv("JAX_AITER_CACHE", str(here))
    op = here / "plans" / text / text / text
    cache.write_entry(op / f"{'0' * 40}-3.6.0.json", {"record": {}})
    cache.write_entry(op / f"{'1' * 40}-{text}.json", {"refused": text})
    (op / f"{'2' * 40}-3.6.0.json").write_text("torn")
    for command in (["add", path], ["add", checkout], ["list"], ["verify"], ["prune"], ["prune", "--all"]):
        done = CliRunner().invoke(kernels, [str(part) for part in command])
        assert done.exception is None or isinstance(done.exception, SystemExit), (command, done.exception)
        assert clean(done.output), (command, done.output)
        assert done.output.strip()
    entry(here).write_bytes(b"torn")
    done = CliRunner().invoke(kernels, ["list"])
    assert done.exit_code == 1
    assert clean(done.output)


FORGED = "x\nall files are as they should be\nfreed 9 MiB"


@pytest.mark.parametrize("command", [["add"], ["list"], ["verify"], ["prune"]], ids=" ".join)
def test_no_name_makes_a_line_that_looks_like_ours(command, hashes, checkout, tmp_path, monkeypatch):
    here = tmp_path / FORGED
    monkeypatch.setenv("JAX_AITER_CACHE", str(here))
    if command != ["verify"]:  # which has nothing to say it for
        assert CliRunner().invoke(kernels, ["add", str(checkout)]).exit_code == 0
    arguments = [*command, *([str(checkout)] if command == ["add"] else [])]
    lines = CliRunner().invoke(kernels, arguments).output.splitlines()
    assert lines
    assert not {*FORGED.split("\n")[1:]} & {*lines}


def test_doctor_prints_names_as_they_are_but_for_what_acts(tmp_path):
    """Also what rich would read as markup."""
    folder = tmp_path / "[bold]x[/bold] [/] \x1b[31m\u202e"
    (folder / "aiter").mkdir(parents=True)
    (folder / "aiter" / "current.json").write_text("torn")
    environment = {**os.environ, "JAX_AITER_CACHE": str(folder), "JAX_PLATFORMS": "cpu", "COLUMNS": "1000"}
    program = "from jax_aiter.cli import main; import sys; sys.argv[0] = 'jax-aiter'; main()"
    for options in ([], ["--json"]):
        done = subprocess.run(
            [sys.executable, "-c", program, "doctor", *options],
            env={**environment, "PYTHONPATH": str(Path(__file__).parents[2])},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 2, done.stderr  # AITER is damaged
        assert clean(done.stdout)
        if options:
            assert "damaged" in json.loads(done.stdout)["aiter"]["error"]
        else:
            assert "[bold]x[/bold] [/] \\x1b[31m\\u202e" in done.stdout
