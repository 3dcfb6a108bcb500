"""Kernel tables by the names of their columns: the dialect of every known release is read, what is not understood is refused."""

import itertools

import pytest

from jax_aiter.kernels.asm import dialects, listed, tables
from jax_aiter.kernels.asm.dialects import FILE, FLAG, SIZE, SYMBOL, read
from jax_aiter.kernels.store.location import AS_IT_IS, Location
from tests.needs import needs_aiter

SYMBOLS = ("_ZN5aiter1aE", "a.co")
# Headers of older releases, by table: as they stood in 0.1.4, 0.1.5.post4, 0.1.7.post2, 0.1.8, 0.1.10.post1, 0.1.12.
FORMER = {
    "pa/pa_asm.csv": [
        ("qType,kvType,Gqa,Mtp,Msk,Hp,knl_name,knl_file", "bf16,fp8,8,0,0,1,{},{}", {"blkSz": 16, "ps": 0, "quant_type": 0}),
        ("qType,kvType,Gqa,Mtp,Msk,Hp,blkSz,knl_name,knl_file", "fp16,int8,16,12,1,0,1024,{},{}", {"blkSz": 1024, "ps": 0}),
        ("qType,kvType,Gqa,Mtp,Msk,Hp,blkSz,knl_name,co_name,ps,qTile", "bf16,fp8,0,0,0,0,256,{},{},0,16", {"quant_type": 0}),
    ],
    "fmoe/silu/fmoe_bf16_pertokenFp8_g1u1_silu.csv": [
        ("knl_name,knl_file,atm,vskip,smf,tg_num_perCU,ps,subGU_m,subGU_n", "{},{},0,1,2,1,0,32,384", {"flat": 0, "subGU_n": 384}),
    ],
    "f4gemm/f4gemm_bf16_per1x32Fp4.csv": [
        ("tile_M,tile_N,splitK,bpreshuffle,knl_name,co_name", "128,256,0,1,{},{}", {"tile_m": 128, "tile_n": 256}),
        ("tile_m,tile_n,splitK,bpreshuffle,knl_name,co_name", "128,256,0,1,{},{}", {"tile_m": 128, "tile_n": 256}),
    ],
    "bf16gemm/bf16gemm_fp32bf16.csv": [
        ("knl_name,co_name,tn,tileM,tileN,pf,bPreshuffle,splitK", "{},{},1,32,64,3,0,1", {"subK": 64, "bias": 0, "clean": 0}),
    ],
    "mla/mla_asm.csv": [
        ("qType,kvType,Gqa,ps,qSeqLen,prefill,causal,knl_name,co_name", "bf16,bf16,16,1,4,0,1,{},{}", {"lse": 0, "cprr": 0}),
    ],
}


def rows(table, header, *lines):
    return list(read(table, [header.split(","), *(line.split(",") for line in lines)]))


@pytest.mark.parametrize(("table", "case"), [(t, c) for t, cases in FORMER.items() for c in cases], ids=str)
def test_an_older_table_means_what_the_present_one_says(table, case):
    header, line, implied = case
    ((symbol, file, fields),) = rows(table, header, line.format(*SYMBOLS))
    assert (symbol, file) == SYMBOLS
    assert fields.keys() == dialects.dialect_of(table).columns.keys()
    assert {name: fields[name] for name in implied} == implied


def whole(dialect):
    """A row that has every column."""
    values = {name: 32 if known is SIZE else known[0] for name, known in dialect.columns.items()}
    return {SYMBOL: SYMBOLS[0], FILE: SYMBOLS[1], **values}


@pytest.mark.parametrize("dialect", dialects.DIALECTS, ids=lambda d: d.pattern)
def test_what_is_not_understood_is_refused_by_column_and_value(dialect):
    table, row = dialect.pattern.replace("*", "x"), whole(dialect)

    def one(changed):
        ((symbol, _, fields),) = read(table, [list(changed), [str(value) for value in changed.values()]])
        assert symbol == changed.get(SYMBOL, "")
        return fields

    assert one(row) == {name: value for name, value in row.items() if name not in (SYMBOL, FILE)}
    for name, known in dialect.columns.items():
        wrong = ("many", "-1", "", "0", "1.0") if known is SIZE else ("many", "-1", "", "77", " 1 1")
        for value in wrong:
            assert f"column {name!r} is {value.strip()!r}" in str(one({**row, name: value})), (name, value)
        missing = one({key: value for key, value in row.items() if key != name})
        if name in dialect.absent:
            assert isinstance(missing, dict)
        else:
            assert f"column {name!r} is missing" in str(missing)
    assert "column 'cluster' is not known" in str(one({**row, "cluster": 0}))
    assert "a symbol and the name of a .co file" in str(one({**row, FILE: "../a.co"}))


def test_columns_that_stand_twice_and_rows_of_another_length_are_refused():
    header = "tile_m,tile_n,knl_name,co_name"
    table = "fmoe_2stages/fmoe_stage1_bf16_pertokenFp8_g1u1.csv"
    ((*_, twice),) = rows(table, f"{header},tile_m", "32,64,a,a.co,32")
    assert "column 'tile_m' is there twice" in str(twice)
    found = rows(table, header, "32,64,a,a.co,9", "32,64,b", "32,64,c,c.co")
    assert [str(fields) for *_, fields in found[:2]] == ["it has 5 cells for 4 columns", "it has 3 cells for 4 columns"]
    assert found[2] == ("c", "c.co", {"tile_m": 32, "tile_n": 64})


def test_a_persistent_kernel_that_does_not_say_its_quantisation_is_refused():
    header = "qType,kvType,Gqa,Mtp,Msk,Hp,blkSz,knl_name,co_name,ps,qTile"
    ((*_, why),) = rows("pa/pa_asm.csv", header, "bf16,fp8,0,0,0,0,256,a,a.co,1,16")
    assert "column 'quant_type' is missing and its value does not follow" in str(why)


def test_a_table_of_an_unknown_name_is_refused():
    ((*_, why),) = rows("newgemm/a.csv", "knl_name,co_name", "a,a.co")
    assert str(why) == "no table of this name is known"


def test_flags_and_sizes_are_told_apart():
    assert SIZE is not FLAG
    assert all(known is SIZE or len(known) > 0 for d in dialects.DIALECTS for known in d.columns.values())


@pytest.mark.parametrize("table", listed.TABLES)
def test_kernels_that_no_table_lists_have_the_columns_of_one(table):
    """And their values are among the known ones."""
    dialect = dialects.dialect_of(table)
    names = ["topksoftmax_4x128x8.co", *(f"{stem}.co" for stem in listed._MLA), "readme.md"]
    parts = itertools.product(("128", "192x128"), ("", "_causal"), ("_rtna", ""), ("", "_group"))
    names += [f"fwd_hd{heads}_bf16{mask}{rounding}{mode}.co" for heads, mask, rounding, mode in parts]
    for arch in ("gfx942", "gfx950"):
        found = list(listed.read(arch, table, names))
        assert found
        for symbol, file, fields in found:
            stem = file.removesuffix(".co")
            assert symbol.endswith(f"{stem}E")
            header = [SYMBOL, FILE, *fields]
            assert list(read(table, [header, [symbol, file, *map(str, fields.values())]])) == [(symbol, file, fields)]
            assert fields.keys() == dialect.columns.keys()


@pytest.fixture
def tampered(tmp_path):
    """AITER's folder with one table, of which a cell or a column's name was changed."""

    def make(table, old, new):
        text = tables.location().place(f"hsa/gfx942/{table}").read_text()
        assert old in text
        path = tmp_path / f"hsa/gfx942/{table}"
        path.parent.mkdir(parents=True)
        path.write_text(text.replace(old, new, 1))
        return tables._kernels("gfx942", table, Location(tmp_path, "setting", AS_IT_IS, "its files are taken as they are"))

    needs_aiter("hsa")
    return make


def test_one_altered_cell_takes_one_row_away(tampered):
    table = "fmoe_2stages/fmoe_stage1_bf16_pertokenInt8_g1u1.csv"
    whole = tables.kernels("gfx942", table)
    first = whole[0]
    line = f"{first['tile_m']},{first['tile_n']},{first.symbol}"
    found, refused = tampered(table, line, f"{first['tile_m']},wide,{first.symbol}")
    assert found == whole[1:]
    ((row, why),) = refused.items()
    assert row.symbol == first.symbol
    assert str(why).startswith(f"AITER's table hsa/gfx942/{table}, kernel {first.symbol}: column 'tile_n' is 'wide'")


def test_one_renamed_column_takes_all_rows_away(tampered):
    table = "fmoe_2stages/fmoe_stage1_bf16_pertokenInt8_g1u1.csv"
    found, refused = tampered(table, "tile_n", "tile_k")
    assert found == ()
    assert {row.symbol for row in refused} == {row.symbol for row in tables.kernels("gfx942", table)}
    assert all("column 'tile_k' is not known" in str(why) for why in refused.values())


@pytest.mark.parametrize("arch", ["gfx942", "gfx950"])
@pytest.mark.parametrize("table", listed.TABLES)
def test_kernels_that_no_table_lists_are_what_a_later_table_says(table, arch):
    needs_aiter(f"hsa/{arch}/{table}")
    rows = {row.symbol: row for row in tables.kernels(arch, table)}
    files = [row.path.rpartition("/")[2] for row in rows.values()]
    found = list(listed.read(arch, table, files))
    assert len(found) >= 7
    for symbol, file, fields in found:
        assert rows[symbol].path.endswith(f"/{file}")
        assert rows[symbol].fields == fields
