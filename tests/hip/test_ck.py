"""Composable Kernel's GEMMs: what AITER's script writes for a device, which file a call's instance is in, and what is refused."""

import csv
import io
import re

import jax
import jax.numpy as jnp
import pytest

from jax_aiter.core.errors import KernelBuildError
from jax_aiter.kernels.hip.build import ck, ck_compile, ck_script, source
from jax_aiter.kernels.hip.provider import HipProvider
from jax_aiter.kernels.provider import Call, Target
from jax_aiter.kernels.spec import COMPUTE_UNITS
from jax_aiter.kernels.store import files, sources
from jax_aiter.ops import catalogue
from tests.needs import needs_aiter, skip_without_aiter

FNUZ, OCP = jnp.float8_e4m3fnuz, jnp.float8_e4m3fn


def of_release(name: str) -> source.Source:
    where = needs_aiter()
    if (rule := source.lacking(where, name)) is not None:
        skip_without_aiter(rule)
    return source.source(where, name)


def rows(unit: source.Source, units: int) -> list[dict]:
    """The tuned rows of a device, slowest first: of its table, and of those of models beside it."""
    named = ck.SCRIPTS[unit.name].table.removesuffix(".csv").rpartition("/")[2]
    folder = files.matching(unit.where, f"aiter/configs/model_configs/{named}*.csv")
    texts = [files.read(unit.where, name).decode() for name in (ck.SCRIPTS[unit.name].table, *folder)]
    found = [row for text in texts for row in csv.DictReader(io.StringIO(text)) if row["cu_num"] == str(units)]
    return sorted(found, key=lambda row: -float(row["us"]))


def written(unit, arch, tmp_path, units=None):
    tree = tmp_path / "aiter"
    files.copy(unit.where, tree, [name for name in unit.names if name.endswith(".py")], sources.read)
    ck_script.write(unit, arch, units or COMPUTE_UNITS[arch], tree, tmp_path / "blob")
    return tmp_path / "blob"


@pytest.mark.parametrize("arch", ["gfx942", "gfx950"])
@pytest.mark.parametrize("name", sorted(name for name, script in ck.SCRIPTS.items() if script.table))
def test_the_table_is_of_the_device_and_names_kernels_that_were_written(name, arch, tmp_path):
    unit = of_release(name)
    folder = written(unit, arch, tmp_path)
    table = (folder / f"{name}_lookup.h").read_text()
    found = {tuple(map(int, key.split(","))): kernel for key, kernel in re.findall(r"\{\{\{([\d, ]+)\},\s*\\?\s*(\w+)", table)}
    sizes = ("B", "M", "N", "K") if name.startswith("batched") else ("M", "N", "K")
    wanted = {tuple(int(row[size]) for size in sizes): row["kernelName"] for row in rows(unit, COMPUTE_UNITS[arch])}
    ours = {
        key: kernel for key, kernel in wanted.items() if kernel in found.values()
    }  # rows of other libraries' kernels are left out
    assert {key: found.get(key) for key in ours} == ours
    assert set(found) <= set(wanted)
    assert set(found.values()) <= set(ck_script.instances(folder))


def test_another_number_of_compute_units_has_other_rows(tmp_path):
    unit = of_release("gemm_a8w8")
    texts = {(written(unit, "gfx942", tmp_path / str(n), n) / "gemm_a8w8_lookup.h").read_text() for n in (304, 80, 256)}
    assert len(texts) == 3


def test_no_tuned_row_splits_k():
    """Of the two entry points that take splitK it is passed as 0."""
    for name in ("gemm_a8w8", "batched_gemm_bf16", "batched_gemm_a8w8"):
        unit = of_release(name)
        text = files.read(unit.where, ck.SCRIPTS[name].table).decode()
        assert {row["splitK"] for row in csv.DictReader(io.StringIO(text))} <= {"0"}, name


def test_an_instance_is_found_by_the_types_of_the_function_that_is_called():
    fits, types_ = ck_compile._fits, ck_compile._types
    function = "at::Tensor tile_64x16<signed char, float, unsigned short>(at::Tensor&, std::optional<at::Tensor>, int)"
    assert ck_compile._name(function) == ck_compile._name("tile_64x16(at::Tensor&)") == "tile_64x16"
    assert types_(function) == ("signed char", "float", "unsigned short")
    assert fits(("I8", "F32", "B16"), types_(function))
    assert not any(fits(spelt, types_(function)) for spelt in [("F8", "F32", "B16"), ("I8", "F32", "F16"), ("I8", "B16", "B16")])
    assert fits(("B16",), ("unsigned short", "unsigned short"))  # the second is the first's
    assert fits(("F8", "F32"), ("ck::f8_fnuz_t", "float"))
    assert fits((), ())
    assert not fits(("F32",), ())


def test_a_script_that_fails_says_so(tmp_path):
    unit = of_release("gemm_a8w8")
    tree = tmp_path / "aiter"
    (tree / "csrc/ck_gemm_a8w8").mkdir(parents=True)
    (tree / "csrc/ck_gemm_a8w8/gen_instances.py").write_text("import gemm_a8w8_common\n")
    with pytest.raises(KernelBuildError, match="No module named 'gemm_a8w8_common'"):
        ck_script.write(unit, "gfx942", 304, tree, tmp_path / "blob")


def struct(dtype, *shape):
    return jax.ShapeDtypeStruct(shape, dtype)


def rows_of(m, n, k, dtype=FNUZ, out="bfloat16", **more):
    operands = {"xq": struct(dtype, m, k), "wq": struct(dtype, n, k)}
    operands |= {"x_scale": struct("float32", m, 1), "w_scale": struct("float32", n, 1)}
    return operands | {name: x for name, x in more.items() if name == "bias"}, {"out_dtype": jnp.dtype(out)} | {
        name: x for name, x in more.items() if name != "bias"
    }


def blocks_of(m, n, k, dtype=FNUZ, out="bfloat16", **more):
    operands, params = rows_of(m, n, k, dtype, out, **more)
    return operands | {"x_scale": struct("float32", m, k // 128), "w_scale": struct("float32", -(-n // 128), k // 128)}, params


def batches_of(b, m, n, k, dtype, out="bfloat16", scaled=True, bias=None):
    operands = {"XQ": struct(dtype, b, m, k), "WQ": struct(dtype, b, n, k)}
    operands |= {"x_scale": struct("float32", b, m, 1), "w_scale": struct("float32", b, n, 1)} if scaled else {}
    return operands | ({"bias": bias} if bias else {}), {"out_dtype": jnp.dtype(out)}


SHUFFLED = {"splitK": None}
REFUSED = [
    ("gemm_a8w8", rows_of(5, 48, 520), r"K = 520; .* load 16 elements of float8_e4m3fnuz at once"),
    ("gemm_a8w8", rows_of(5, 44, 528, "int8"), r"N = 44; .* store up to 8 columns at once"),
    ("gemm_a8w8", rows_of(5, 48, 528, out="float32"), "out_dtype = float32; AITER's CK kernels write bfloat16 or float16"),
    ("gemm_a8w8", rows_of(5, 48, 528, bias=struct("float32", 48)), "bias has dtype float32; .* in the result's, bfloat16"),
    ("gemm_a8w8", rows_of(5, 48, 528, OCP), "xq has dtype float8_e4m3fn; gfx942 computes in float8_e4m3fnuz"),
    ("gemm_a8w8_bpreshuffle", rows_of(5, 48, 512, "int8", **SHUFFLED), "xq has dtype int8; .* take float8_e4m3fnuz"),
    ("gemm_a8w8_bpreshuffle", rows_of(5, 64, 128, **SHUFFLED), "K = 128; .* multiples of 64 from 192 on"),
    ("gemm_a8w8_bpreshuffle", rows_of(5, 64, 544, **SHUFFLED), "K = 544; .* multiples of 64"),
    ("gemm_a8w8_bpreshuffle", rows_of(5, 48, 512, **SHUFFLED), "N = 48; .* multiples of 32"),
    ("gemm_a8w8_blockscale_bpreshuffle", blocks_of(5, 64, 256, transpose_scale=False, **SHUFFLED), "K = 256; .* 128 from 384 on"),
    ("gemm_a8w8_blockscale_bpreshuffle", blocks_of(5, 80, 384, transpose_scale=False, **SHUFFLED), "N = 80; .* multiples of 64"),
    ("gemm_a8w8_bpreshuffle", rows_of(5, 48, 512, splitK=2), "splitK = 2; .* split no K"),
    (
        "gemm_a8w8_bpreshuffle",
        rows_of(5, 48, 512, bias=struct("bfloat16", 48), **SHUFFLED),
        "bias is given; .* has no such argument",
    ),
    ("gemm_a8w8_blockscale", blocks_of(5, 48, 256, "int8"), "xq has dtype int8"),
    ("gemm_a8w8_blockscale", blocks_of(5, 132, 256), "N = 132; "),
    ("gemm_a8w8_blockscale_bpreshuffle", blocks_of(5, 48, 256, splitK=4, transpose_scale=False), "splitK = 4"),
    ("batched_gemm_a8w8", batches_of(2, 5, 48, 528, FNUZ), "XQ has dtype float8_e4m3fnuz; .* take int8"),
    ("batched_gemm_a8w8", batches_of(2, 5, 48, 528, "int8", bias=struct("bfloat16", 2, 48)), "bias is given; .* without a word"),
    ("batched_gemm_bf16", batches_of(2, 5, 48, 512, "bfloat16", "float16", False), "out_dtype = float16; .* write bfloat16"),
    ("batched_gemm_bf16", batches_of(2, 5, 48, 524, "bfloat16", scaled=False), "K = 524; .* multiples of 32"),
    ("batched_gemm_bf16", batches_of(2, 5, 48, 528, "float16", scaled=False), "XQ has dtype float16"),
]


@pytest.mark.parametrize(("op", "call", "rule"), REFUSED, ids=[f"{op}-{i}" for i, (op, *_) in enumerate(REFUSED)])
def test_what_the_kernels_do_not_take_is_refused(op, call, rule):
    operands, params = call
    results = catalogue.named(op).infer(operands, params)
    refusal = HipProvider().refuse(Call(op, Target("rocm", "gfx942"), operands, params, results))
    assert refusal is not None
    assert re.search(rule, refusal), refusal
