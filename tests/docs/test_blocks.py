"""Every Python and console block of the documentation is executed; what a page says it prints, it prints.

A page's Python blocks are one program. A block that cannot run says why in the comment before it; shell blocks are run, or checked
to name files, modules, commands and options that there are. The README's example is `tests/core/test_readme.py`'s.
"""

import contextlib
import importlib.util
import io
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from tests.needs import needs_aiter

from . import blocks

PROGRAMS: dict[str, list[blocks.Block]] = {}
for _block in blocks.ALL:
    if _block.kind == "python" and _block.page != "README.md" and not _block.mark.startswith(("not run:", "virtual")):
        PROGRAMS.setdefault(_block.page, []).append(_block)
SHELL = [b for b in blocks.ALL if b.kind in ("bash", "console", "sh", "shell")]
CONSOLE = [b for b in SHELL if b.kind == "console" and not b.mark]
VIRTUAL = {b.mark.split(": ")[1]: b for b in blocks.ALL if b.mark.startswith("virtual: ")}


@pytest.mark.parametrize("page", PROGRAMS)
def test_python_blocks_of_a_page_run_and_print_what_it_says(page, monkeypatch):
    if any(block.mark == "needs aiter" for block in PROGRAMS[page]):
        needs_aiter("hsa")
    if "bind.op import Op" in "".join(block.code for block in PROGRAMS[page]):
        return _in_a_process(PROGRAMS[page])  # it defines an op, which this process must not have
    space: dict = {"__name__": "__docs__"}
    for block in PROGRAMS[page]:
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(compile("\n" * block.line + block.code, block.page, "exec"), space)
        if block.prints is not None:
            assert blocks.agrees(block.prints, out.getvalue()), f"{block.name} prints:\n{out.getvalue()}"
    return None


def _in_a_process(found: list[blocks.Block]) -> None:
    code = "\n".join(block.code for block in found)
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert blocks.agrees("".join(block.prints or "" for block in found), done.stdout), done.stdout


def commands(block: blocks.Block) -> list[str]:
    """The commands of a shell block, without comments, continued lines joined; of a console only what stands after `$`."""
    text = block.code.replace("\\\n", " ")
    lines = [line[2:] for line in text.splitlines() if line.startswith("$ ")] if block.kind == "console" else text.splitlines()
    return [line for line in lines if line.strip() and not line.lstrip().startswith("#")]


@pytest.mark.parametrize("block", CONSOLE, ids=lambda b: b.name)
def test_console_blocks_print_what_they_show(block):
    """Commands of ours, in this process; each is followed by what it prints."""
    from jax_aiter.cli.main import cli

    for part in re.split(r"^\$ ", block.code, flags=re.M)[1:]:
        line, _, said = part.partition("\n")
        program, *arguments = shlex.split(line, comments=True)
        if program != "jax-aiter":
            pytest.fail(f"{block.name}: {line} is not run; mark the block")
        done = CliRunner().invoke(cli, arguments)
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        assert done.exit_code in (0, 1), done.output
        if said.strip() and blocks.agrees(said, said):
            assert blocks.agrees(said, done.output), done.output


def _checked(line: str) -> None:
    words = shlex.split(line.partition(" | ")[0], comments=True)
    while words and (re.fullmatch(r"[A-Z_]+=\S*", words[0]) or words[0] in ("vgpu", "run", "--", "exec")):
        words = words[1:]
    if not words:
        return
    program, *rest = words
    if program.startswith("python") or program.endswith("/python"):
        if rest[:1] == ["-m"] and importlib.util.find_spec(rest[1].split(".")[0]) is not None and rest[1] != "pytest":
            assert importlib.util.find_spec(rest[1]) is not None, f"no module {rest[1]}"
        for path in rest if rest[:2] == ["-m", "pytest"] else []:
            assert not path.startswith(("tests/", "vgpu/")) or (blocks.ROOT / path.split("::")[0]).exists(), f"no tests {path}"
    elif program == "bash":
        assert (blocks.ROOT / rest[0]).exists(), f"no script {rest[0]}"
    elif program == "jax-aiter":
        _known(rest)


def _known(words: list[str]) -> None:
    """The command exists and has these options."""
    from jax_aiter.cli.main import cli

    command: click.Command = cli
    for word in words:
        if isinstance(command, click.Group) and not word.startswith("-"):
            found = command.get_command(click.Context(command), word)
            assert found is not None, f"jax-aiter has no {word}"
            command = found
        elif word.startswith("--"):
            options = {o for p in command.params for o in (*p.opts, *p.secondary_opts)} | {"--help", "--version"}
            assert word.split("=")[0] in options, f"{command.name} has no {word}"


@pytest.mark.parametrize("block", SHELL, ids=lambda b: b.name)
def test_shell_blocks_name_what_there_is(block):
    for line in commands(block):
        _checked(line)


def test_a_block_that_is_not_run_says_why():
    for block in blocks.ALL:
        if block.mark.startswith("not run:"):
            assert len(block.mark) > len("not run: ") + 10, block.name
        elif block.kind == "python":
            assert block.mark in ("", "needs aiter") or block.mark.startswith("virtual: "), f"{block.name}: {block.mark}"


@pytest.mark.parametrize("name", VIRTUAL)
def test_the_faulty_kernel_is_found_on_a_virtual_device_and_the_mended_one_passes(name, tmp_path):
    vgpu = pytest.importorskip("vgpu", reason="needs vgpu: pip install ./vgpu")
    if not hasattr(vgpu, "run"):  # the checkout's folder of that name
        pytest.skip("needs vgpu: pip install ./vgpu")
    pytest.importorskip("triton", reason="needs the triton package")
    program = VIRTUAL[name]
    (shown,) = [b for b in blocks.ALL if b.page == program.page and b.mark == "virtual"]
    said = shown.code.partition("\n")[2]
    (tmp_path / name).write_text(program.code)
    environment = {**os.environ, "TRITON_CACHE_DIR": str(tmp_path / "triton")}
    try:
        options = vgpu.Options()
        done = vgpu.run([sys.executable, name], options, environment, cwd=tmp_path, capture_output=True, text=True)
    except FileNotFoundError as error:
        pytest.skip(f"vgpu is not built: {error}")
    assert done.returncode == 1, done.stderr
    assert blocks.agrees(said, done.stderr), done.stderr
    (tmp_path / name).write_text(blocks.mended(program.code))
    done = vgpu.run([sys.executable, name], options, environment, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "every access was in bounds\n"), done.stderr


def test_messages_of_the_troubleshooting_page_are_messages_of_the_package():
    page = (blocks.ROOT / "docs/guide/troubleshooting.md").read_text()
    files = [p for folder in ("jax_aiter", "ffi") for p in (blocks.ROOT / folder).rglob("*") if p.suffix in (".py", ".cc")]
    sources = re.sub(r"""["']\s*\n\s*f?["']""", "", "\n".join(path.read_text() for path in files)).replace("\\", "")
    sources = re.sub(r"\{[^{}\n]*\}", "...", sources)
    rows = re.findall(r"^\| (?:JAX's own )?`(.+?)`[^|]*\|", page, re.M)
    assert len(rows) > 10
    missing = [row for row in rows if not row.startswith("Closing over") and not _said(row, sources)]
    assert not missing, missing


def _said(message: str, sources: str) -> bool:
    parts = [part.strip() for part in message.split("...") if len(part.strip()) > 5]
    return bool(parts) and all(part in sources for part in parts)


def test_pages_are_found():
    assert {Path(b.page).parts[0] for b in blocks.ALL} == {"README.md", "CONTRIBUTING.md", "vgpu", "docs"}
    assert len(PROGRAMS) >= 12
