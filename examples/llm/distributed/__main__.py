"""``python -m examples.llm.distributed``: one answer of a model that is spread over the devices of one process or of several."""

import time
from pathlib import Path

import click
import jax

from examples.llm.__main__ import PROMPT, find
from examples.llm.distributed import axes, program
from examples.llm.distributed.processes import join_processes
from examples.llm.distributed.sizes import Sizes, that_fit
from examples.llm.generate import generate
from examples.llm.open import open_model
from examples.llm.session import Session
from examples.llm.upcycle import upcycle


@click.command(context_settings={"show_default": True})
@click.option(
    "--mesh",
    type=Sizes("expert", "model"),
    required=True,
    help="expert: devices that experts are spread over; model: that each is split over.",
)
@click.option(
    "--model", type=click.Path(path_type=Path, exists=True), help="A folder of Hugging Face's, or a GGUF file.  [default: SmolLM2]"
)
@click.option("--prompt", default=PROMPT)
@click.option("--tokens", default=48, help="The most tokens of an answer.")
@click.option("--dtype", type=click.Choice(["float32", "bfloat16"]), default="bfloat16")
@click.option("--scheme", type=click.Choice(["none", "fp8", "int8"]), default="none", help="Of the layers' matrices.")
@click.option("--experts", default=8, help="Of a dense model: so many identical experts for each MLP; 0 leaves it dense.")
@click.option("--check", is_flag=True, help="Answer on one device too, and fail where the tokens differ.")
@click.option("--coordinator", help="host:port of process 0, where there are several.")
@click.option("--processes", type=int)
@click.option("--process", type=int, help="The number of this one.")
def main(mesh, model, prompt, tokens, dtype, scheme, experts, check, coordinator, processes, process) -> None:
    """Answer a prompt with a model whose heads, columns and experts are dealt out to a mesh of devices."""
    join_processes(coordinator, processes, process)
    with that_fit():
        devices = program.make_mesh(**mesh)
    say = click.echo if jax.process_index() == 0 else lambda *args, **settings: None
    opened = open_model(find(model))
    config, asked = opened.config, opened.tokenizer.chat([{"role": "user", "content": prompt}])
    length = min(config.max_length, max(512, len(asked) + tokens))
    params = opened.load(dtype=dtype, scheme=scheme, length=length)
    if experts and not any(hasattr(layer.mlp, "count") for layer in config.layers):
        params, config = upcycle(params, config, experts)
    with that_fit():
        spread = program.Program(params, config, devices)
    say(f"{spread.mesh.size} devices of {jax.process_count()} processes: {dict(spread.mesh.shape)}")
    for line in axes.whole(config, spread.axes):
        say(f"whole on each device: {line}")
    want = None
    if check:
        want = list(generate(Session(params, config, length=length), asked, tokens, stops=opened.tokenizer.stops))
    del params

    warm = spread.session(length=length)  # compiles both programs
    warm.feed([asked])
    warm.feed([asked[:1]])
    session, answer, times = spread.session(length=length), [], []
    for token in generate(session, asked, tokens, stops=opened.tokenizer.stops):
        answer.append(token)
        times.append(time.perf_counter())
    say(opened.tokenizer.decode(answer))
    if len(times) > 1:
        say(f"{(len(times) - 1) / (times[-1] - times[0]):.1f} tokens/s")
    if want is not None and want != answer:
        raise click.ClickException(f"on one device the answer is {want}, here it is {answer}")


if __name__ == "__main__":
    main()
