"""Run by test_recorder in a process of its own (the stand-ins for a GPU would disturb other tests): prints JSON."""

import json
import sys

import torch
import triton
import triton.language as tl

from jax_aiter.kernels.triton.worker import fakes
from jax_aiter.kernels.triton.worker.errors import RecordError
from jax_aiter.kernels.triton.worker.recorder import Launch, Recorder


@triton.jit
def kernel(x, y, n, scale, flag: tl.constexpr, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(y + i, tl.load(x + i, mask=i < n) * scale, mask=i < n)


def meta(*shape, dtype=torch.float32):
    return torch.empty(shape, dtype=dtype, device="meta")


def launch(x, y, n=64, grid=(4,)):
    kernel[grid](x, y, n, 0.5, True, BLOCK=128)


def views_and_offsets():
    x = meta(8, 64)
    launch(x[1:], x.view(-1)[3:], n=1)


def computes():
    launch(meta(64) + 1, meta(64))


def reads_a_value():
    launch(meta(64), meta(64), n=int(meta(1).item()))


def branches_on_data():
    if meta(1) > 0:
        launch(meta(64), meta(64))


def transposes():
    launch(meta(8, 64).T.contiguous(), meta(64))


def copies_a_row():
    """Whatever the strides of an axis of one element are."""
    target = meta(1, 64).copy_(meta(64).as_strided((1, 64), (1, 1)))
    launch(target, meta(64))


def converts():
    launch(meta(64, dtype=torch.bfloat16).float(), meta(64))


def host_tensor():
    launch(torch.zeros(64), meta(64))


def too_large_a_grid():
    launch(meta(64), meta(64), grid=(2**25, 1))


def too_large_a_number():
    launch(meta(64), meta(64), n=2**64)


def too_much_scratch():
    launch(meta(2**31), meta(64))


def scratch_as_large_as_32_bits_count():
    launch(meta(2**31 - 1), meta(64))


def much_scratch_for_a_kernel_of_ours():
    from jax_aiter.kernels.triton.worker.own import glue

    glue.sum_slots(meta(2**20, 2, 2**10), meta(2**20, 2**10))


def empty_grid():
    launch(meta(64), meta(64), grid=(0,))


def fills_and_copies():
    torch.zeros(6, dtype=torch.bfloat16, device="cuda")
    torch.full((5,), 1.0, dtype=torch.bfloat16, device="cuda")
    meta(4, 4)[1:3].fill_(-1.0)
    torch.full((2,), 3, dtype=torch.int32, device="meta").clone()


def fills_a_strided_view():
    meta(4, 4)[:, 1].zero_()


def pattern_too_wide():
    torch.full((3,), 5, dtype=torch.int64, device="meta")


def main():
    fakes._fake_driver("gfx942")
    found = {}
    for name in sys.argv[1:]:
        recorder = Recorder("gfx942")
        try:
            with recorder.recording():
                globals()[name]()
        except RecordError as error:
            found[name] = {"refused": str(error)}
            continue
        except Exception as error:  # told apart from a refusal by the test
            found[name] = {"error": f"{type(error).__name__}: {error}"}
            continue
        found[name] = {"steps": [describe(step) for step in recorder.steps]}
    print(json.dumps(found))


def describe(step):
    if isinstance(step, Launch):
        args = [[kind, value.offset if kind == "ptr" else value] for kind, value in step.args]
        return {"grid": step.grid, "args": args, "attrs": {str(k): str(v) for k, v in step.attrs.items()}}
    fields = {k: v for k, v in vars(step).items() if isinstance(v, int)}
    return {type(step).__name__: fields, "offset": step.target.offset}


if __name__ == "__main__":
    main()
