"""Every command of `jax-aiter` explains itself with an example that its own parser takes."""

import re
import shlex

import click
import pytest
from click.testing import CliRunner

from jax_aiter.cli.main import cli


def leaves(command: click.Command, name: str = "") -> dict[str, click.Command]:
    if not isinstance(command, click.Group):
        return {name.strip(): command}
    found: dict[str, click.Command] = {}
    for each in command.list_commands(click.Context(command)):
        sub = command.get_command(click.Context(command), each)
        assert sub is not None
        found |= leaves(sub, f"{name} {each}")
    return found


COMMANDS = leaves(cli)


def examples(name: str) -> list[list[str]]:
    text = CliRunner().invoke(cli, [*name.split(), "--help"], catch_exceptions=False).output
    lines = text.split("Examples:\n")[1].splitlines() if "Examples:\n" in text else []
    found = [line.split("|")[0] for line in lines if re.match(r"\s+([A-Z_]+=\S+ )*jax-aiter ", line)]
    return [shlex.split(re.sub(r"^\s*([A-Z_]+=\S+ )*jax-aiter ", "", line), comments=True) for line in found]


@pytest.mark.parametrize("name", COMMANDS)
def test_help_has_an_example_that_the_parser_takes(name):
    found = examples(name)
    assert found, f"jax-aiter {name} --help shows no example"
    command = COMMANDS[name]
    options = {o for p in command.params for o in (*p.opts, *p.secondary_opts)}
    for words in found:
        assert words[: len(name.split())] == name.split()
        assert {w.split("=")[0] for w in words if w.startswith("--")} <= options
