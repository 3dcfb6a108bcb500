"""The ``jax-aiter`` command. It needs the ``cli`` extra (click, rich); the library itself does not."""

import sys


def main() -> None:
    try:
        from jax_aiter.cli.main import cli
    except ModuleNotFoundError as error:
        if error.name not in ("click", "rich"):
            raise
        sys.exit(f"jax-aiter needs {error.name}: pip install 'jax_aiter[cli]'")
    cli()
