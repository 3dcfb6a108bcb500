"""What each of two processes runs: the tokens of a model that is spread over the devices of both.

python -m tests.examples.llm.distributed.processes PORT RANK      # two processes, two CPU devices each
"""

import sys

import jax

from examples.llm.distributed import program
from examples.llm.distributed.__main__ import join_processes
from tests.examples.llm.distributed import models


def main(port: str, rank: int) -> None:
    join_processes(f"localhost:{port}", 2, rank)
    jax.config.update("jax_disable_most_optimizations", True)
    spread = program.Program(models.params(), models.CONFIG, program.make_mesh(expert=2, model=2))
    got = models.answer(spread.session(**models.SESSION))
    print(f"rank {rank}: {len(jax.local_devices())} of {len(jax.devices())} devices answer {got}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
