"""The tuning file and what auto makes of it: keys, damaged files, precedence, and the choice with providers of the test's own."""

import json
import time
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from click.testing import CliRunner

from jax_aiter.bind import preference, select, tuning
from jax_aiter.cli import measure, tune_calls
from jax_aiter.cli import tune as tune_command
from jax_aiter.core.config import config
from jax_aiter.core.errors import KernelBuildError, NotSupportedError
from jax_aiter.kernels.provider import Call, Target
from jax_aiter.ops.catalogue import all_ops
from tests.core.planted import Planted

OP = all_ops()["rms_norm"]


def call(rows=100, columns=64, *, platform="cuda", arch="sm_90", op="rms_norm", epsilon=1e-6, dtype=jnp.bfloat16):
    x, w = jax.ShapeDtypeStruct((rows, columns), dtype), jax.ShapeDtypeStruct((columns,), dtype)
    return Call(op, Target(platform, arch), {"x": x, "weight": w}, {"epsilon": epsilon}, (x,))


class Fake:
    """A provider that accepts everything; its plan is its own name."""

    def __init__(self, name, reason=None, broken=False):
        self.name, self._reason, self._broken = name, reason, broken

    def refuse(self, call):
        return self._reason

    def plan(self, call):
        if self._broken:
            raise KernelBuildError("no compiler")
        return f"plan of {self.name}"

    def passes_over(self, call):
        return None

    def details(self, call):
        return ()


ABSENT = {"hip": "this provider is not installed"}  # of the fakes that stand for the providers


@pytest.fixture
def providers(monkeypatch):
    """Set the installed providers, best first."""

    def use(*fakes):
        monkeypatch.setattr(select, "providers", lambda: fakes)
        monkeypatch.setattr(select, "_warned", set())

    use(Fake("asm"), Fake("triton"))
    return use


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("JAX_AITER_CACHE", str(tmp_path))
    monkeypatch.delenv("JAX_AITER_TUNE", raising=False)
    return tmp_path


def write(entries, path=None, arch="sm_90"):
    path = path or tuning.tune_file(arch)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(tuning.render({tuning.key(c): tuning.Entry(s, tuning.spelled(c)) for c, s in entries}))
    return path


@pytest.mark.parametrize(("size", "rounded"), [(0, 0), (1, 1), (2, 2), (3, 4), (4096, 4096), (4097, 8192), (2**31 + 1, 2**32)])
def test_dimensions_round_up_to_a_power_of_two(size, rounded):
    assert f"weight=bfloat16[{rounded}]" in tuning.key(call(columns=size))


def test_key():
    assert tuning.key(call()) == "sm_90 rms_norm x=bfloat16[128,64] weight=bfloat16[64] | epsilon=set"
    assert tuning.key(call(65)) == tuning.key(call(128, epsilon=1e-5))
    others = [call(64), call(dtype=jnp.float32), call(arch="gfx942"), call(op="rms_norm_with_add"), call(epsilon=0.0)]
    assert len({tuning.key(c) for c in [call(), *others]}) == len(others) + 1
    params = {"topk": 8, "out_dtype": np.dtype(jnp.bfloat16), "window": (-1, 5), "cap": 0.0, "limit": None, "layout": "HND"}
    text = tuning.key(Call("op", Target("cuda", "sm_90"), {}, params, ()))
    assert text.endswith("| cap=0 layout=HND limit=None out_dtype=bfloat16 topk=8 window=(-1,5)")


def test_lookup_and_a_file_written_again():
    assert tuning.lookup(call()) is None
    path = write([(call(), {"xla": 2.0, "triton": 1.0})])
    assert path.parent.name == "tune"
    found = tuning.lookup(call(127))
    assert found is not None
    assert (found.best, found.seconds["xla"], found.measured) == ("triton", 2.0, "x=bfloat16[100,64] weight=bfloat16[64]")
    write([(call(), {"xla": 1.0, "triton": 22.0})])
    assert tuning.lookup(call()).best == "xla"
    assert tuning.lookup(call(129)) is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "not JSON"),
        ("[]", "version is None"),
        ('{"version": 99, "entries": {}}', "version is 99.*reads version 1"),
        ('{"version": 1}', "entries must be an object"),
        ('{"version": 1, "entries": {"k": {"seconds": {"triton": 1}}}}', "xla among them"),
        ('{"version": 1, "entries": {"k": {"seconds": {"xla": -1}}}}', "positive"),
        ('{"version": 1, "entries": {"k": {"seconds": {"xla": "fast"}}}}', "positive"),
    ],
)
def test_a_file_that_cannot_be_used_is_warned_about_once(text, reason, providers):
    path = tuning.tune_file("sm_90")
    path.parent.mkdir(parents=True)
    path.write_text(text)
    with pytest.warns(RuntimeWarning, match=f"ignores the tuning file .*{reason}") as caught:
        assert (tuning.lookup(call()), tuning.lookup(call())) == (None, None)
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert select.choose(OP, call(platform="rocm", arch="gfx942"), None).implementation == "asm"


def test_the_environment_names_another_file(monkeypatch, cache):
    write([(call(), {"xla": 1.0, "triton": 2.0})])
    named = write([(call(), {"xla": 2.0, "triton": 1.0})], cache / "mine.json")
    monkeypatch.setenv("JAX_AITER_TUNE", str(named))
    assert tuning.lookup(call()).best == "triton"
    monkeypatch.setenv("JAX_AITER_TUNE", str(cache / "none.json"))
    with pytest.warns(RuntimeWarning, match=r"none\.json.*cannot be found"):
        assert tuning.lookup(call()) is None


def test_measurement_goes_before_the_rule(providers):
    write([(call(), {"xla": 4.3e-5, "triton": 7.3e-5}), (call(8), {"xla": 2e-5, "triton": 1e-5, "asm": 1.5e-5})])
    choice = select.choose(OP, call(), None)
    assert choice.implementation == "xla"
    assert choice.plan is None
    assert choice.refusals["triton"] == "tuned: xla 0.043 ms, triton 0.073 ms (a kernel must be 5% faster than xla)"
    fast = select.choose(OP, call(8), None)
    assert (fast.implementation, fast.plan) == ("triton", "plan of triton")  # though asm is listed first
    assert select.preferred(call(8), None)[0] == "triton"
    providers(Fake("asm"), Fake("triton", reason="too odd"))
    assert select.choose(OP, call(8), None).implementation == "asm"
    providers(Fake("triton", reason="too odd"))
    refused = select.choose(OP, call(8), None)
    assert (refused.implementation, refused.refusals["triton"]) == ("xla", "too odd")


def test_a_kernel_within_the_margin_is_not_taken(providers):
    write([(call(), {"xla": 2e-5, "triton": 1.91e-5}), (call(8), {"xla": 2e-5, "triton": 1.89e-5, "asm": 1.95e-5})])
    assert tuning.lookup(call()).best == select.choose(OP, call(), None).implementation == "xla"
    assert tuning.lookup(call(8)).best == "triton"
    others = {"asm": select.choose(OP, call(8), None).refusals["asm"], **ABSENT}
    assert select.preferred(call(8), None) == ("triton", others)


def test_a_kernel_nobody_timed_does_not_replace_a_measured_one(providers):
    write([(call(), {"xla": 2e-5, "triton": 1e-5})])
    assert select.choose(OP, call(), None).implementation == "triton"
    assert "tuned" in select.choose(OP, call(), None).refusals["asm"]


def test_the_rule_without_measurements(providers):
    assert select.choose(OP, call(platform="rocm", arch="gfx942"), None).implementation == "asm"
    choice = select.choose(OP, call(), None)
    assert choice.implementation == "xla"
    assert "0.073 ms" in choice.refusals["triton"]
    other = select.preferred(call(op="silu_and_mul"), None)
    assert other[0] == "xla"
    assert "auto rule" in other[1]["triton"]
    assert "sm_90" in other[1]["triton"]
    for op in ("fused_moe", "paged_attention", "unified_attention", "flash_attention"):
        assert select.preferred(call(op=op), None) == ("asm", ABSENT)


def test_rules_name_ops_that_exist():
    assert set(preference.SM_90) <= set(all_ops())


def test_what_was_asked_for_is_not_weighed(providers):
    write([(call(), {"xla": 1e-5, "triton": 9e-5, "asm": 9e-5})])
    assert select.choose(OP, call(), "triton").plan == "plan of triton"
    assert select.preferred(call(), "triton")[0] == "triton"
    providers(Fake("triton", reason="too odd"))
    with pytest.raises(NotSupportedError, match="too odd"):
        select.choose(OP, call(), "triton")


def test_a_kernel_that_cannot_be_built_leaves_the_next(providers):
    providers(Fake("asm", broken=True), Fake("triton"))
    with pytest.warns(RuntimeWarning, match="no compiler"):
        assert select.choose(OP, call(platform="rocm", arch="gfx942"), None).implementation == "triton"


def test_two_calls_of_one_key_keep_the_cautious_measurement():
    good, bad = tuning.Entry({"xla": 2.0, "triton": 1.0}, "a"), tuning.Entry({"xla": 2.0, "triton": 3.0}, "b")
    assert tuning.merged(None, good) is good
    assert tuning.merged(good, bad) is tuning.merged(bad, good) is bad
    rows = [tune_command.Row(call(r), e) for r, e in ((100, bad), (128, good))] + [tune_command.Row(call(9), None, "refused")]
    old = {tuning.key(call()): good, "another": good}
    assert tune_command.merge(old, rows) == {tuning.key(call()): bad, "another": good}


def test_a_written_file_reads_back():
    entries = {"k": tuning.Entry({"xla": 1e-5, "triton": 2.5e-6}, "x=f[1]")}
    text = tuning.render(entries, device="card")
    assert tuning.parse(text.decode()) == entries
    assert json.loads(text)["entries"]["k"]["best"] == "triton"


def test_the_slower_of_two_calls_reads_as_slower_by_its_factor():
    def waits(seconds):
        def call():
            time.sleep(seconds)
            return jnp.zeros(())

        return call

    found = measure.side_by_side({"quick": waits(2e-3), "slow": waits(8e-3)})
    # A sleep lasts at least as long as asked for and, on a busy machine, up to some milliseconds longer.
    assert found["quick"] >= 2e-3
    assert found["slow"] >= 8e-3
    assert found["slow"] > found["quick"]


@pytest.mark.filterwarnings("ignore:Some donated buffers")
def test_an_op_that_updates_in_place_hands_its_result_on():
    op = all_ops()["reshape_and_cache"]
    case = op.cases()[0]
    operands = case.draw()
    once = op(**operands, **case.params, implementation="xla")
    call = measure.OneOp(op, case.params, operands, "xla")
    many = [call() for _ in range(3)][-1]
    for a, b in zip(once, many, strict=True):  # writing the same slots again changes nothing
        np.testing.assert_array_equal(np.asarray(a, np.float32), np.asarray(b, np.float32))
    assert not any(x.is_deleted() for x in operands.values()), "the caller's own arrays are not given away"


def test_calls_to_measure_are_valid_on_the_target():
    with config(arch="sm_90"):
        for item in [*tune_calls.own_cases(), *tune_calls.benchmark_calls()]:
            item.op.infer({n: a.struct for n, a in item.case.operands.items()}, item.case.params)


def test_shapes_file(tmp_path):
    path = tmp_path / "shapes.json"
    paged = {"query": ["bfloat16", 2, 8, 64], "key_cache": ["bfloat16", 9, 16, 2, 64], "value_cache": ["bfloat16", 9, 16, 2, 64]}
    paged |= {"block_tables": ["int32", 2, 3], "context_lens": ["int32", 2]}
    params = {"scale": 0.1, "logits_soft_cap": 0.0, "sliding_window": 0, "kv_layout": "NHD"}
    calls = [
        {"op": "paged_attention", "operands": paged, "params": {**params, "ragged": False, "per_token_scales": False}},
        {"op": "rms_norm", "operands": {"x": ["bfloat16", 5, 8], "weight": ["bfloat16", 8]}, "params": {"epsilon": 1e-6}},
    ]
    path.write_text(json.dumps(calls))
    first, second = tune_calls.file_calls(path)
    drawn = first.draw()
    assert drawn["context_lens"].tolist() == [48, 48]
    assert drawn["block_tables"].max() < 9
    assert second.draw()["x"].shape == (5, 8)
    path.write_text(json.dumps([{"op": "nope", "operands": {}}]))
    with pytest.raises(ValueError, match="call 0: op 'nope'"):
        tune_calls.file_calls(path)


def test_the_command_needs_a_gpu(tmp_path):
    from jax_aiter.cli.main import cli

    out = tmp_path / "out.json"
    done = CliRunner().invoke(cli, ["tune", "--out", str(out)])
    assert done.exit_code == 1
    assert "tuning measures kernels on a GPU" in done.output
    assert not out.exists()
    assert '"op": "rms_norm"' in CliRunner().invoke(cli, ["tune", "--help"]).output


def test_the_command_writes_what_auto_reads(monkeypatch, tmp_path, providers):
    """The whole command with a device of its own and the clock replaced: kernels cannot run here."""
    from jax_aiter.cli.main import cli

    monkeypatch.setattr(tune_command, "arch_of", lambda device: "sm_90")
    monkeypatch.setattr(tune_calls, "platform_name", lambda: "cuda")
    times = {"xla": 3.0, "asm": 2.0, "triton": 1.0}
    monkeypatch.setattr(tune_command, "Sides", lambda op, p, o, names, arch: Planted(lambda drawn: {n: times[n] for n in names}))
    shapes = tmp_path / "shapes.json"
    one = {"op": "rms_norm", "operands": {"x": ["bfloat16", 100, 64], "weight": ["bfloat16", 64]}, "params": {"epsilon": 1e-6}}
    shapes.write_text(json.dumps([one]))
    done = CliRunner().invoke(cli, ["tune", "--no-tiles", "--shapes", str(shapes)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert "1 of 1 calls measured" in done.output
    assert select.choose(OP, call(), None).implementation == "triton"


def test_a_tuning_run_that_is_cut_off_leaves_what_it_measured(monkeypatch, tmp_path, providers):
    from jax_aiter.cli.main import cli

    def cut_off(operands):
        if operands["x"].shape[0] == 7:
            raise KeyboardInterrupt
        return {"xla": 2.0, "triton": 1.0, "asm": 2.0}

    monkeypatch.setattr(tune_command, "arch_of", lambda device: "sm_90")
    monkeypatch.setattr(tune_calls, "platform_name", lambda: "cuda")
    monkeypatch.setattr(tune_command, "Sides", lambda *of: Planted(cut_off))
    shapes = tmp_path / "shapes.json"
    one = {"op": "rms_norm", "params": {"epsilon": 1e-6}}
    operands = [{"x": ["bfloat16", rows, 64], "weight": ["bfloat16", 64]} for rows in (100, 7)]
    shapes.write_text(json.dumps([{**one, "operands": o} for o in operands]))
    done = CliRunner().invoke(cli, ["tune", "--no-tiles", "--shapes", str(shapes)])
    assert done.exit_code == 1, done.output
    assert select.choose(OP, call(), None).implementation == "triton"


def test_an_unwritable_place_is_reported_before_measuring(monkeypatch, tmp_path, providers):
    from jax_aiter.cli.main import cli

    monkeypatch.setattr(tune_command, "arch_of", lambda device: "sm_90")
    monkeypatch.setattr(tune_command, "measure", lambda item, arch: pytest.fail("measured for nothing"))
    (tmp_path / "file").write_text("")
    done = CliRunner().invoke(cli, ["tune", "--cases", "--out", str(tmp_path / "file/tune.json")])
    assert done.exit_code == 1
    assert "JAX_AITER_CACHE" in done.output
