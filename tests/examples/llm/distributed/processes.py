"""What each of two processes runs: a model that is spread over the devices of both, in a session and behind an engine.

python -m tests.examples.llm.distributed.processes PORT RANK MESH LATE    # LATE: seconds by which process 1 has its weights later
"""

import dataclasses
import sys
import time

import jax

from examples.llm.distributed import program
from examples.llm.distributed.follower import Follower
from examples.llm.distributed.leader import Leader
from examples.llm.distributed.processes import join_processes
from examples.llm.distributed.sizes import Sizes
from tests.examples.llm.distributed import models
from tests.examples.llm.distributed.served import SETTINGS, answers


def main(port: str, rank: int, sizes: str, late: float) -> None:
    host = join_processes(f"localhost:{port}", 2, rank)
    mesh = program.make_mesh(**Sizes("expert", "model").convert(sizes, None, None))
    among = (Follower if rank else Leader)(host)
    time.sleep(late * rank)
    spread = program.Program(models.params(), models.CONFIG, mesh)
    got = models.answer(spread.session(**models.SESSION))
    print(f"rank {rank}: {len(jax.local_devices())} of {len(jax.devices())} devices answer {got}", flush=True)

    serve = spread.follow if rank else spread.runner
    try:
        serve(dataclasses.replace(SETTINGS, blocks=SETTINGS.blocks + rank), among)
    except ValueError as error:
        print(f"rank {rank}: refused, {error}", flush=True)
    found = serve(SETTINGS, among)
    print(f"rank {rank}: serves {found if rank else answers(found)}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3], float(sys.argv[4]))
