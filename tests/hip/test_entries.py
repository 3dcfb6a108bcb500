"""Which kernels AITER's own entry points launch for products and attention: its tuned rows, or the rule where there is none.

The rows of the first tests are made up; the last ones take all those of the release that is here. Nothing is compiled.
"""

import csv
import io

import jax
import jax.numpy as jnp
import pytest

import jax_aiter
from jax_aiter.bind import select
from jax_aiter.core.config import config
from jax_aiter.kernels.described import call_of, spec_of
from jax_aiter.kernels.hip import adapters, client, provider
from jax_aiter.kernels.hip.build import compilers, source
from jax_aiter.kernels.hip.gemm import entries
from jax_aiter.kernels.manifest import LANDMARK
from jax_aiter.kernels.spec import COMPUTE_UNITS, CallSpec
from jax_aiter.kernels.store import files
from tests.hip.compiled import whole
from tests.needs import needs_aiter

BLOCKS = "gemm_a8w8_blockscale_bpreshuffle"
OPS = sorted(entries.TABLES)


def described(op: str, m: int, n: int, k: int, b: int = 0, weight: str = "fp8", **params):
    """A call as a file of shapes describes it."""
    batch, kind = ([b] if b else []), {"batched_gemm_a8w8": "int8", "batched_gemm_bf16": "bfloat16"}.get(op, weight)
    x, w = ("XQ", "WQ") if b else ("xq", "wq")
    operands = {x: [kind, *batch, m, k], w: [kind, *batch, n, k]}
    if "blockscale" in op:
        operands |= {"x_scale": ["float32", m, k // 128], "w_scale": ["float32", -(-n // 128), k // 128]}
    elif kind != "bfloat16":
        operands |= {"x_scale": ["float32", *batch, m, 1], "w_scale": ["float32", *batch, n, 1]}
    return {"op": op, "operands": operands, "params": {"out_dtype": "bfloat16", **params}}


def entry(call, arch="gfx942"):
    spec = spec_of(call, arch)
    return adapters.adapter(spec.op).entry(spec)


@pytest.fixture
def tables(root, tmp_path):
    """A release that has nothing but tuned tables: call it with their texts."""

    def write(**texts: str) -> None:
        for name, text in {LANDMARK: "", **{f"aiter/configs/{name}.csv": text for name, text in texts.items()}}.items():
            path = tmp_path / "release" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text.encode(errors="surrogateescape"))

    with config(unverified=True):
        write()
        with config(source=str(tmp_path / "release")):
            yield write


LIBRARIES = """gfx,cu_num,M,N,K,libtype,kernelId,splitK,us,kernelName,tflops,bw,errRatio
gfx942,304,32,512,256,ck,1,0,5.0,tile,1,1,0
gfx942,304,32,640,256,asm,1,0,5.0,written,1,1,0
gfx942,304,64,512,256,triton,0,0,5.0,triton,1,1,0
gfx942,80,128,512,256,asm,1,0,5.0,of_another_device,1,1,0
"""


def test_a_row_names_the_library_and_holds_for_rows_rounded_up(tables):
    tables(a8w8_blockscale_bpreshuffle_tuned_gemm=LIBRARIES)
    for m in (17, 31, 32):
        found = entry(described(BLOCKS, m, 512, 256))
        assert (found.rule, found.elsewhere, found.asked) == ("AITER's tuned row for M = 32: tile", None, False)
        assert found.left_open is None
    assert entry(described(BLOCKS, 32, 640, 256)).elsewhere == "AITER's tuned row for M = 32 takes asm"
    other = entry(described(BLOCKS, 49, 512, 256))
    assert (other.elsewhere, other.left_open) == ("AITER's tuned row for M = 64 takes triton", None)
    for m, n in ((65, 512), (128, 512), (32, 768)):
        found = entry(described(BLOCKS, m, n, 256))
        assert "without a tuned row: Composable Kernel" in found.rule
        assert found.elsewhere is None
        assert "no tuned row for this shape" in str(found.left_open)
    assert "without a tuned row" in entry(described(BLOCKS, 32, 512, 256), "gfx950").rule


def test_tables_of_older_releases_are_of_composable_kernel(tables):
    older = "cu_num,M,N,K,kernelId,splitK,us,kernelName,tflops,bw,errRatio\n304,16,512,256,1,0,5.0,tile,1,1,0\n"
    tables(a8w8_tuned_gemm=older)
    for weight in ("int8", "fp8"):
        assert entry(described("gemm_a8w8", 3, 512, 256, weight=weight)).rule == "AITER's tuned row for M = 16: tile"
    assert "without a tuned row" in entry(described("gemm_a8w8", 1, 512, 256)).rule, "one token is rounded to nothing"


def test_rows_are_of_a_dtype_where_the_table_says_so(tables):
    head = "cu_num,M,N,K,q_dtype_w,kernelId,splitK,us,kernelName,tflops,bw,errRatio\n"
    tables(a8w8_tuned_gemm=f"{head}304,16,512,256,torch.int8,1,0,5.0,tile,1,1,0\n")
    assert "for M = 16" in entry(described("gemm_a8w8", 16, 512, 256, weight="int8")).rule
    assert "without a tuned row" in entry(described("gemm_a8w8", 16, 512, 256)).rule


def test_a_table_that_is_none_is_said_and_one_of_other_columns_passed_over(tables):
    tables(a8w8_tuned_gemm="cu_num,M,N,K,phase_of_the_moon\n304,16,512,256,1\n", a8w8_tuned_batched_gemm="\udcff,\n")
    assert "without a tuned row" in entry(described("gemm_a8w8", 16, 512, 256)).rule
    assert "cannot be read: AITER's table" in entry(described("batched_gemm_a8w8", 16, 512, 256, b=2)).rule


def paged(layout="asm", sequences=4, heads=8, size=128, cache="bfloat16", slopes=False, **params):
    blocks, keys = (9, 1, size // 8, 16, 8), (9, 1, 2, size, 8)
    if cache == "fp8":
        blocks, keys = (9, 1, size // 16, 16, 16), (9, 1, 1, size, 16)
    if layout == "vllm":
        keys = (9, 1, size, 16)
    elif layout == "NHD":
        blocks = keys = (9, 16, 1, size)
    operands = {"query": ["bfloat16", sequences, heads, size], "key_cache": [cache, *blocks], "value_cache": [cache, *keys]}
    operands |= {"block_tables": ["int32", sequences, 3], "context_lens": ["int32", sequences]}
    operands |= {"alibi_slopes": ["float32", heads]} if slopes else {}
    rest = {"logits_soft_cap": 0.0, "sliding_window": 0, "attention_chunk_size": 0, "ragged": False, "per_token_scales": False}
    return {"op": "paged_attention", "operands": operands, "params": {"scale": size**-0.5, "kv_layout": layout, **rest, **params}}


def test_attention_goes_by_layout_and_for_asm_by_the_number_of_heads():
    assert "paged_attention_v1" in entry(paged("NHD")).rule
    assert "forward_decode" in entry(paged("vllm", 400)).rule
    for arch, most in (("gfx942", 76), ("gfx950", 64)):  # twice 304 and 256 units, 8 heads
        assert entry(paged(sequences=most), arch).elsewhere is None
        assert "takes its hand-written kernel" in str(entry(paged(sequences=most + 1), arch).elsewhere)
    for other in ({"size": 64}, {"scale": 0.1}, {"cache": "fp8"}, {"slopes": True}):
        assert entry(paged(sequences=400, **other)).elsewhere is None, "the hand-written kernels have nothing of the kind"


@pytest.fixture
def compiler(monkeypatch, tmp_path):
    """There is one, whatever this machine has."""
    monkeypatch.setenv(client.PYTHON, "the one that compiles")
    monkeypatch.setenv(compilers.VARIABLE, str(whole(tmp_path)))


@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize(("sequences", "taken"), [(4, "hip"), (77, "asm")])
def test_auto_takes_the_same(sequences, taken):
    where, call = needs_aiter("hsa/gfx942/pa"), call_of(paged(sequences=sequences), "gfx942")
    if (rule := provider.unserved(where, CallSpec.of(call))) is not None:
        pytest.skip(rule)
    name, refused = select.preferred(call, None)
    assert (name, refused.get("hip")) == (taken, entry(paged(sequences=sequences)).elsewhere)


def rows(where, op: str, arch: str) -> list[dict[str, str]]:
    """An op's rows for the architecture's full device, of equal ones the quickest: AITER's tables and its models'."""
    best: dict[tuple, dict[str, str]] = {}
    for folder in ("", "model_configs/"):
        for name in files.matching(where, f"aiter/configs/{folder}{entries.TABLES[op].pattern}"):
            for row in csv.DictReader(io.StringIO(files.read(where, name).decode())):
                key = tuple(row.get(column) for column in ("q_dtype_w", "B", "M", "N", "K"))
                mine = row["cu_num"] == str(COMPUTE_UNITS[arch]) and row.get("gfx", arch) == arch
                if mine and (key not in best or float(row["us"]) < float(best[key]["us"])):
                    best[key] = row
    return list(best.values())


@pytest.mark.parametrize("arch", ["gfx942", "gfx950"])
@pytest.mark.parametrize("op", OPS)
def test_the_rows_of_the_release_are_found(op, arch):
    """Fifty of each table's."""
    found = rows(needs_aiter(), op, arch)
    for row in found[:: max(1, len(found) // 50)]:
        size = {name.lower(): int(row[name]) for name in ("M", "N", "K", "B") if name in row}
        weight = "int8" if row.get("q_dtype_w") == "torch.int8" else "fp8"
        libtype, result = row.get("libtype", "ck"), entry(described(op, **size, weight=weight), arch)
        said = f"AITER's tuned row for M = {row['M']}"
        if libtype == "ck":
            assert (result.rule, result.elsewhere) == (f"{said}: {row['kernelName']}", None)
        else:
            assert result.elsewhere == f"{said} takes {libtype}"


@pytest.mark.usefixtures("compiler")
def test_explain_prints_the_row(monkeypatch):
    where = needs_aiter()
    if source.lacking(where, "gemm_a8w8_blockscale") is not None or not rows(where, "gemm_a8w8_blockscale", "gfx942"):
        pytest.skip("this release of AITER has no Composable Kernel, or no row of this device")
    row = rows(where, "gemm_a8w8_blockscale", "gfx942")[0]
    m, n, k = (int(row[name]) for name in "MNK")
    kinds = (
        ((m, k), jnp.float8_e4m3fnuz),
        ((n, k), jnp.float8_e4m3fnuz),
        ((m, k // 128), "float32"),
        ((n // 128, k // 128), "float32"),
    )
    with config(arch="gfx942", implementation=None):
        (said,) = jax_aiter.explain(
            jax_aiter.gemm_a8w8_blockscale, *(jax.ShapeDtypeStruct(*kind) for kind in kinds), platform="rocm"
        )
    assert said.implementation == "hip"
    assert f"chosen by AITER's tuned row for M = {m}: {row['kernelName']}" in str(said)
