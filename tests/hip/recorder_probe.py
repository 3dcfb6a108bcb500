"""Records calls of `host.hip` in a process of its own and prints what came of each, as JSON.

    python recorder_probe.py ARCH UNITS

A process each time: the recording HIP is loaded for all of it, and a call that a signal ended leaves it as it was.
"""

import dataclasses
import json
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

from jax_aiter.kernels.hip.build import commands, compilers
from jax_aiter.kernels.hip.build.device import code_object
from jax_aiter.kernels.hip.build.frontend import INCLUDE
from jax_aiter.kernels.hip.worker.errors import RecordError
from jax_aiter.kernels.hip.worker.memory import PLACEMENTS
from jax_aiter.kernels.hip.worker.record import Host, Module, Recorder, record
from jax_aiter.kernels.hip.worker.runtime import Runtime
from jax_aiter.kernels.spec import ArraySpec, CallSpec

HERE = Path(__file__).parent
LDS = {"gfx942": 65536, "gfx950": 163840}
ONE = ("device", "elsewhere", "checks", "reads", "aborts", "allocates", "workspace", "nothing", "asks", "copies", "absent")


def calls():
    """By name, what is called on a context."""
    for look in (7, PLACEMENTS[0]):
        yield f"launches-{look}", lambda c, look=look: c.call("s", "sample::launches", c.results[0], c["x"], 0.5, True, None, look)
    yield "scaled", lambda c: c.call("s", "sample::launches", c.results[0], c["x"], 0.5, True, c["scale"], 7)
    yield "many", lambda c: c.call("s", "sample::many", c.results[0], 1, -2, 3, 4, 5, 6, 7.0, "eight", 1, None)
    yield "maybe", lambda c: c.call("s", "sample::maybe", c.results[0], 1.0, 20, None, 3, 4, 5, 600.0, 7000.0)
    yield "later", lambda c: c.call("s", "sample::device", c.results[0], later=(0.0,))
    yield "filled", lambda c: (c.fill(c.results[0], b"\x01\x02\x03\x04"), c.call("s", "sample::device", c.results[0]))
    yield "given", lambda c: c.call("s", "sample::given", c.results[0], c["x"])
    yield "nowhere", lambda c: (c.call("s", "sample::given", c.results[0], c.nowhere((3,), "float32")), c.least_lds(512))
    yield "asked", lambda c: c.call("s", "sample::many", c.results[0], *_asked(c), 3, 4, 5, 6, 7.0, "eight", 1, None)
    yield "too late", lambda c: c.call("s", "sample::device", c.results[0], later=(1.0,))
    yield "no number", lambda c: c.call("s", "sample::launches", c.results[0], c["x"], None, True, None, 0)
    for factor in (0.5, -0.5):
        yield f"opens {factor}", lambda c, f=factor: c.call("s", "sample::opens", c.results[0], c["scale"], f, 3, returns=True)
    for name in ONE:
        yield name, lambda c, name=name: c.call("s", f"sample::{name}", c.results[0])


def _asked(c) -> tuple[int, int]:
    """What a function of AITER's returns, and how many arguments another takes."""
    (taken,) = c.takes("s", "sample::many")
    assert not c.takes("s", "sample::absent")
    return c.call("s", "sample::difference", 3, 10), taken


@dataclasses.dataclass
class Part:
    """`part.hip`, given when it is called; of its functions one is there, and another only said to be."""

    folder: Path
    arch: str

    def has(self, function: str) -> bool:
        return "sample::part<" in function

    def library(self, function: str) -> Path:
        self.folder.mkdir(exist_ok=True)
        return compiled("part.hip", self.folder, self.arch).host


def compiled(file: str, folder: Path, arch: str):
    source = SimpleNamespace(files=(file,), file=file, includes=(), defines=(), flags=(), tensor="torch", values=None)
    (folder / "aiter").mkdir(exist_ok=True)
    (folder / "aiter" / file).write_text((HERE / file).read_text())
    for half in (commands.host, commands.device):
        half(compilers.find(), source, arch, folder, INCLUDE)
    part = folder.parent / f"{folder.name}-part"

    def code(symbol: str) -> bytes:
        module = part if "scaled" in symbol and file == "host.hip" else folder
        return code_object(module / "device.bc", symbol, arch)

    return Module(folder / "host.so", "torch", code, Part(part, arch))


def main(arch: str, units: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder, recorder, compiler = Path(name), Recorder(), compilers.find()
        runtime = Runtime(compiler.clang, compiler.headers, folder, (arch, int(units), LDS[arch]), recorder)
        (folder / "module").mkdir()
        module = compiled("host.hip", folder / "module", arch)
        host = Host(runtime, recorder, lambda _: module)
        x, out, scale = ArraySpec((16,), "float32"), ArraySpec((16,), "float32"), ArraySpec((8,), "float32")
        spec = CallSpec("sample", arch, {"x": x, "scale": scale}, {}, (out,))
        for label, run in calls():
            try:
                found = record(spec, run, host, recorder, folder / "cache")
            except RecordError as error:
                found = {"refused": f"{type(error).__name__}: {error}"}
            print(json.dumps([label, found]), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
