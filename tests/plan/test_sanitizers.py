"""The native parts under sanitizers: a million mutated plans through the decoder, and threads racing in the executor."""

import subprocess
from pathlib import Path

import pytest

from jax_aiter.kernels.args import Pointer, Raw, Scalar
from jax_aiter.kernels.builder import PlanBuilder
from jax_aiter.kernels.mock_driver import code_object
from jax_aiter.kernels.plan.encode import encode
from tests.plan.compiler import CPP, FFI, build, compiler

CORE = "check_plan code_store decode describe driver_mock executor inflate module_table sha256 text_codec"
CORE_SOURCES = [FFI / f"{name}.cc" for name in CORE.split()]
DRIVER_SOURCES = [FFI / f"{name}.cc" for name in ("driver_cuda", "driver_hip", "library")]
FUZZ_INPUTS = 1_000_000


@pytest.fixture(scope="module", autouse=True)
def _sanitizers_work(tmp_path_factory):
    """Some compilers come without the sanitizers' libraries."""
    source = tmp_path_factory.mktemp("probe") / "probe.cc"
    source.write_text("int main() { return 0; }")
    for kind in ("address,undefined", "thread"):
        probe = subprocess.run(
            [compiler(), f"-fsanitize={kind}", str(source), "-o", str(source.with_suffix(".out"))], capture_output=True, check=False
        )
        if probe.returncode != 0:
            pytest.skip(f"the compiler cannot build with -fsanitize={kind}")


def run(program: Path, *args: object, **env: str) -> dict[str, str]:
    done = subprocess.run([program, *map(str, args)], env=env, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    assert done.stderr == ""
    return dict(line.rsplit(" ", 1) for line in done.stdout.splitlines() if not line.startswith("refused")) | {
        "refused": "\n".join(line for line in done.stdout.splitlines() if line.startswith("refused"))
    }


def fuzz_seeds() -> list[bytes]:
    plain = PlanBuilder("plain", "mock")
    x, out, tmp = plain.operand(64, 16, "x"), plain.result(64, 16, "out"), plain.scratch(300)
    plain.fill(tmp, 0xABCD, width=2, byte_offset=4, nbytes=100)
    plain.copy(out, x, nbytes=60, dst_offset=4)
    plain.launch(code_object("k1"), "k1", [7, 3], [64], 48, [Pointer(x, 8), Scalar("i32", 5), Pointer(tmp), Raw(b"abcdef", 2)])

    slots = PlanBuilder("slots", "gfx942")
    buffers = [slots.operand(100 * i, 1 << i, f"b{i}") for i in range(5)]
    results = [slots.result(100 * i, 4) for i in (4, 1)]
    slots.alias(buffers[4], results[0])
    slots.alias(buffers[1], results[1])
    for i, code in enumerate((code_object("k1", "k2"), code_object("k2", filler=bytes(range(200))))):
        slots.launch(code, "k2", [1 + i], [256], 0, [Pointer(b, b) for b in buffers if b] + [Scalar("fp32", 1.5)], slot=16)
        slots.copy(buffers[3], buffers[4], nbytes=17, src_offset=5)

    empty = PlanBuilder("empty", "sm_90").build()
    return [encode(p) for p in (plain.build(), slots.build(), empty)]


def test_decoder_survives_mutations(tmp_path):
    paths = []
    for i, seed in enumerate(fuzz_seeds()):
        paths.append(tmp_path / f"seed{i}")
        paths[-1].write_bytes(seed)
    sanitize = ["-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    program = build(tmp_path / "fuzz_decode", [CPP / "fuzz_decode.cc", *CORE_SOURCES], *sanitize)
    seen = run(program, FUZZ_INPUTS, 20251122, *paths)
    assert int(seen["inputs"]) == FUZZ_INPUTS
    # The run means something only if mutations get past the checksum, into every check, and out as changed plans.
    assert int(seen["executed"]) > FUZZ_INPUTS // 100
    assert FUZZ_INPUTS // 2 > int(seen["accepted"]) >= int(seen["executed"])
    for reason in ("checksum", "its version is", "does not decompress", "its hash", "step tag", "lie outside", "overlap",
                   "more than  bits", "is out of order", "alias", "argument block", "width", "printable",
                   "follow the end"):  # fmt: skip
        assert reason in seen["refused"], f"no input was refused for: {reason}\n{seen['refused']}"


def race_plans(image: bytes, symbol: str) -> list[bytes]:
    """Four plans, two code objects."""
    encoded = []
    for i in range(4):
        b = PlanBuilder(f"op{i}", "mock")
        x, out, tmp = b.operand(32, 4), b.result(32, 4), b.scratch(32, 4)
        b.fill(tmp, i, width=4)
        b.launch(image + b"\n" + b"x" * (i % 2), symbol, [1], [64], 0, [Pointer(out), Pointer(x), Pointer(tmp), Scalar("u32", 8)])
        encoded.append(encode(b.build()))
    return encoded


RACE_FLAGS = ("-O1", "-fsanitize=thread")


@pytest.fixture(scope="module")
def race_program(tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("race") / "race"
    return build(output, [CPP / "race.cc", *CORE_SOURCES, *DRIVER_SOURCES], *RACE_FLAGS)


@pytest.mark.parametrize(
    ("driver", "image", "symbol", "library"),
    [
        ("mock", code_object("mock_add_u32"), "mock_add_u32", None),
        ("hip", b"hsaco", "add", "libamdhip64.so.7"),
        ("cuda", b"cubin", "add", "libcuda.so.1"),
    ],
)
def test_threads_do_not_race(tmp_path, race_program, driver, image, symbol, library):
    paths = []
    for i, plan in enumerate(race_plans(image, symbol)):
        paths.append(tmp_path / f"plan{i}")
        paths[-1].write_bytes(plan)
    if library:
        paths.append(build(tmp_path / library, [CPP / f"fake_{driver}.cc"], "-shared", "-fPIC", *RACE_FLAGS))
    seen = run(race_program, driver, *paths, TSAN_OPTIONS="halt_on_error=1")
    assert seen["failures"] == "0"
    assert seen["code objects"] == "2"
    assert seen["modules"] == "4"  # two code objects on two devices, however many executables and threads
