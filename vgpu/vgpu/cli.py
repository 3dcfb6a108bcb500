"""The ``vgpu`` command."""

from __future__ import annotations

import argparse
import os
import sys

from vgpu import devices
from vgpu.environment import ARCHITECTURES, ARITHMETIC, Options, environment


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="vgpu", description="Run programs that use an AMD GPU on a machine without one.")
    commands = parser.add_subparsers(dest="action", required=True)
    run = commands.add_parser("run", help="run a command under the virtual device")
    run.add_argument("--arch", choices=ARCHITECTURES, default="gfx942", help="device to imitate (default: %(default)s)")
    run.add_argument("--devices", type=int, default=1, metavar="N", help="number of devices (default: %(default)s)")
    run.add_argument(
        "--check",
        default="memory",
        metavar="LIST",
        help="comma separated: memory, uninit, races, hazard, order=SEED, none (default: %(default)s)",
    )
    run.add_argument("--memory", type=float, metavar="GIB", help="memory per device (default: 16)")
    run.add_argument("--profile", metavar="FILE", help="append one JSON line per kernel launch")
    run.add_argument("--estimate", metavar="FILE", help="append one JSON line per kernel launch with an estimate of its time")
    run.add_argument("--device", choices=devices.names(), help="whose time is estimated (default: mi300x, for gfx950 mi355x)")
    run.add_argument("--dump-code", metavar="DIR", help="keep every code object that is loaded")
    run.add_argument(
        "--arith",
        choices=ARITHMETIC,
        default="silicon",
        help="matrix arithmetic of gfx942: the hardware's, as published, or one fused multiply-add per k (default: %(default)s)",
    )
    run.add_argument("command", nargs=argparse.REMAINDER, metavar="-- COMMAND", help="program and arguments")
    constants = commands.add_parser("constants", help="the numbers that estimates of time rest on, each with its origin")
    constants.add_argument("device", nargs="?", choices=devices.names(), default="mi300x", help="default: %(default)s")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Entry point. `run` replaces this process by the command; it returns only on failure to start it (127) or usage (2)."""
    parser = _parser()
    args = parser.parse_args(argv)
    if args.action == "constants":
        print(devices.load(args.device).origins_table())
        return 0
    command = args.command[1:] if args.command[:1] == ["--"] else args.command
    if not command:
        parser.error("no command given: vgpu run [options] -- COMMAND")
    try:
        options = Options(args.arch, args.devices, args.check, args.memory, args.profile, args.dump_code, args.arith,
                          args.estimate, args.device)  # fmt: skip
        env = environment(options)
    except (ValueError, FileNotFoundError) as error:
        parser.error(str(error))
    try:
        os.execvpe(command[0], command, env)
    except OSError as error:
        print(f"vgpu: {command[0]}: {error.strerror}", file=sys.stderr)
        return 127


if __name__ == "__main__":
    sys.exit(main())
