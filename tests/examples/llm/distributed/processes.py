"""What each of two processes runs: a model that is spread over the devices of both, in a session and behind an engine.

python -m tests.examples.llm.distributed.processes PORT RANK      # two processes, two CPU devices each
"""

import dataclasses
import sys

import jax

from examples.llm.distributed import program
from examples.llm.distributed.processes import join_processes
from tests.examples.llm.distributed import models
from tests.examples.llm.distributed.served import SETTINGS, answers


def main(port: str, rank: int) -> None:
    host = join_processes(f"localhost:{port}", 2, rank)
    jax.config.update("jax_disable_most_optimizations", True)
    spread = program.Program(models.params(), models.CONFIG, program.make_mesh(expert=2, model=2))
    got = models.answer(spread.session(**models.SESSION))
    print(f"rank {rank}: {len(jax.local_devices())} of {len(jax.devices())} devices answer {got}", flush=True)

    serve = spread.follow if rank else spread.runner
    try:
        serve(dataclasses.replace(SETTINGS, blocks=SETTINGS.blocks + rank), host)
    except ValueError as error:
        print(f"rank {rank}: refused, {error}", flush=True)
    found = serve(SETTINGS, host)
    print(f"rank {rank}: serves {found if rank else answers(found)}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
