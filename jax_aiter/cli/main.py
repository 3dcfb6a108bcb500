"""Command group of ``jax-aiter``; each command lives in its own module and is imported when it is called."""

import importlib
import importlib.util

import click

from jax_aiter.cli.say import Group

COMMANDS = {
    "bench": ("jax_aiter.cli.bench.command", "bench"),
    "doctor": ("jax_aiter.cli.doctor", "doctor"),
    "kernels": ("jax_aiter.cli.kernels", "kernels"),
    "ops": ("jax_aiter.cli.ops", "ops"),
    "tune": ("jax_aiter.cli.tune", "tune"),
}


class Lazy(Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for name, (module, _) in COMMANDS.items() if importlib.util.find_spec(module)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        module, attribute = COMMANDS[cmd_name]
        return getattr(importlib.import_module(module), attribute)


@click.group(cls=Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="jax_aiter")
def cli() -> None:
    """AITER's kernels in JAX: what this machine has, which kernels are cached, which op runs where."""
