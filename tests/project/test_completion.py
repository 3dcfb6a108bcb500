"""Completion of `jax-aiter` as docs/guide/cli.md sets it up: by the program itself, and in each shell that is here."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs/guide/cli.md"


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> str:
    """PATH with a `jax-aiter` of this checkout in front."""
    folder = tmp_path_factory.mktemp("bin")
    script = f"#!{sys.executable}\nimport sys\nsys.argv[0] = 'jax-aiter'\nfrom jax_aiter.cli import main\nmain()\n"
    (folder / "jax-aiter").write_text(script)
    (folder / "jax-aiter").chmod(0o755)
    return f"{folder}{os.pathsep}{os.environ['PATH']}"


def asked(path: str, **variables: str) -> str:
    done = subprocess.run(["jax-aiter"], env={**os.environ, "PATH": path, **variables}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def shell(name: str, path: str, code: str) -> str:
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed")
    done = subprocess.run([name, "-c", code], env={**os.environ, "PATH": path}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def line(name: str) -> str:
    """What the page tells the reader of a shell to write into its start-up file."""
    (found,) = re.findall(rf"^(.*_JAX_AITER_COMPLETE={name}_source.*?)\s+#", PAGE.read_text(), re.M)
    return found


@pytest.mark.parametrize(
    ("name", "words", "wanted"),
    [("bash", "jax-aiter be", "bench"), ("zsh", "jax-aiter kernels bu", "build"), ("fish", "jax-aiter bench --comp", "--compare")],
)
def test_the_program_completes_commands_and_options(path, name, words, wanted):
    typed = words.split()
    index, last = str(len(typed) - 1), typed[-1]
    variables = {"COMP_WORDS": words, "COMP_CWORD": last if name == "fish" else index, "_JAX_AITER_COMPLETE": f"{name}_complete"}
    assert wanted in re.split(r"[,\s]", asked(path, **variables))


def test_bash_completes_what_is_typed(path):
    typed = "COMP_WORDS=(jax-aiter be); COMP_CWORD=1; _jax_aiter_completion jax-aiter; echo ${COMPREPLY[@]}"
    assert shell("bash", path, f"{line('bash')}\n{typed}") == "bench\n"


def test_fish_completes_what_is_typed(path):
    assert "bench" in shell("fish", path, f"{line('fish')}\ncomplete -C 'jax-aiter be'").split()


def test_zsh_takes_the_function(path):
    """Its completion needs a terminal; that the function is defined and bound to the command is seen without. With -D compinit
    writes no dump, which it would move to its place, whatever stands there."""
    code = f"autoload -Uz compinit; compinit -u -D\n{line('zsh')}\nprint -r -- ${{_comps[jax-aiter]}}"
    assert shell("zsh", path, code).strip() == "_jax_aiter_completion"
