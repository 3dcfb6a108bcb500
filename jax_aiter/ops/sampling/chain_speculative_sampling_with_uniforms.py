"""Speculative decoding: which of a chain of draft tokens the target model keeps, and the token behind them."""

import jax
import jax.numpy as jnp

from jax_aiter.bind.op import Op
from jax_aiter.bind.public import public
from jax_aiter.core.axes import INT32, Arg
from jax_aiter.core.cases import case, integers, uniform
from jax_aiter.ops.sampling import cut

OP = "chain_speculative_sampling_with_uniforms"


def _abstract(dims, *, draft_token_ids, target_probs, uniforms, **_):
    drafts = dims["n"]
    for name, x in (("uniforms", uniforms), ("target_probs", target_probs)):
        if x.shape[1] != drafts + 1:
            raise ValueError(f"{OP}: dimension 1 of {name} is {x.shape[1]}, must be n + 1 = {drafts + 1} (draft_token_ids has n)")
    rows = dims["B"]
    return jax.ShapeDtypeStruct((rows, drafts + 1), jnp.int32), jax.ShapeDtypeStruct((rows,), jnp.int32)


def _reference(*, draft_token_ids, target_probs, uniforms, draft_probs):
    rows, drafts = draft_token_ids.shape
    size = target_probs.shape[2]
    target = target_probs.astype(jnp.float32)
    ids = jnp.pad(draft_token_ids, ((0, 0), (0, 1)), constant_values=-1)
    proposed = (ids >= 0) & (ids < size)  # the place behind the last draft has none
    own = jax.lax.broadcasted_iota(jnp.int32, (rows, drafts + 1, size), 2) == ids[..., None]
    drawn = None if draft_probs is None else jnp.pad(draft_probs.astype(jnp.float32), ((0, 0), (0, 1), (0, 0)))
    draft = jnp.where(own, 1.0, 0.0) if drawn is None else drawn

    def chosen(x):
        return jnp.sum(jnp.where(own, x, 0.0), axis=2)

    kept = proposed & (uniforms * chosen(draft) < chosen(target))
    place = jax.lax.broadcasted_iota(jnp.int32, ids.shape, 1)
    accepted = jnp.min(jnp.where(kept, drafts, place), axis=1)
    here = place == accepted[:, None]

    def there(x):
        """The row of the first place whose draft is not kept."""
        return jnp.sum(jnp.where(here[..., None], x, 0.0), axis=1)

    left, was = there(target), there(jnp.where(proposed[..., None], draft, 0.0))
    residual = jnp.maximum(left - was, 0.0)
    # Equal distributions leave nothing, nor would they refuse; rounding may.
    weights = jnp.where(jnp.sum(residual, axis=1, keepdims=True) > 0, residual, jnp.maximum(left, 0.0))
    bad = jnp.any(jnp.isnan(left) | jnp.isnan(was), axis=1)
    # The first number that no acceptance has used.
    number = jnp.sum(jnp.where(jnp.arange(drafts + 1) == drafts, uniforms, 0.0), axis=1)
    last = jnp.where(bad, -1, cut.drawn(jnp.where(bad[:, None], 0.0, weights), number))
    out = jnp.where(place < accepted[:, None], ids, jnp.where(here, last[:, None], -1))
    return out, accepted


CHAIN = Op(
    name=OP,
    family="SAMPLING",
    mirrors="flashinfer.sampling.chain_speculative_sampling, vllm.v1.sample.rejection_sampler (AITER has none)",
    operands={
        "draft_token_ids": Arg("B n", INT32),
        "target_probs": Arg("B n1 V"),
        "uniforms": Arg("B n1", ("float32",)),
        "draft_probs": Arg("B n V", optional=True),
    },
    results={"output_token_ids": "B n1", "num_accepted": "B"},
    abstract=_abstract,
    reference=_reference,
    parallel=("B",),
    fold="B",
    data_checks=lambda *, uniforms, **_: {"0 <= uniforms < 1": ~((uniforms >= 0) & (uniforms < 1))},
    cases=lambda: [
        case(
            "draft_probs",
            draft_token_ids=integers(4, 3, low=0, high=7),
            target_probs=uniform(4, 4, 7, high=0.3),
            uniforms=uniform(4, 4),
            draft_probs=uniform(4, 3, 7, high=0.3),
        ),
        case(
            "prompt_lookup",
            draft_token_ids=integers(3, 2, low=-1, high=5),
            target_probs=uniform(3, 3, 5, dtype=jnp.bfloat16),
            uniforms=uniform(3, 3),
        ),
    ],
)


@public
def chain_speculative_sampling_with_uniforms(
    draft_token_ids: jax.Array,
    target_probs: jax.Array,
    uniforms: jax.Array,
    draft_probs: jax.Array | None = None,
    *,
    implementation: str | None = None,
) -> tuple[jax.Array, jax.Array]:
    """The draft tokens that the target model keeps and the token behind them, by numbers that the caller has drawn.

    Place by place a draft token x is kept with probability ``min(1, target(x) / draft(x))``; the first one that is not is replaced
    by a draw from ``max(target - draft, 0)``, and behind the last one a token is drawn from the target. Each token then has the
    target's distribution, whatever the draft's is.

    Args:
      draft_token_ids: int32 ``[B, n]``; an id outside [0, V) ends its row's drafts (fewer than n, say), and the token there is
        drawn from the target.
      target_probs: ``[B, n + 1, V]``, float32, bfloat16 or float16: the target model's, each row summing to one, after whatever
        cuts it (`renorm_probs`).
      uniforms: float32 ``[B, n + 1]`` in [0, 1): one for each draft, the last for the draw.
      draft_probs: ``[B, n, V]``, what the drafts were drawn from. None: they were not drawn (a lookup): all probability is theirs.
      implementation: None (auto), ``"asm"``, ``"hip"``, ``"triton"`` or ``"xla"``.

    Returns:
      ``output_token_ids`` int32 ``[B, n + 1]``: the kept drafts, one token more, then -1; and ``num_accepted`` int32 ``[B]``, how
      many drafts were kept. A NaN keeps no draft, and where the draw meets one, its token is -1. Not differentiable.

    Raises:
      TypeError, ValueError: naming the argument, its value and the rule.

    Mirrors ``flashinfer.sampling.chain_speculative_sampling`` and vLLM's rejection sampler; AITER has no kernel for it.
    """
    found = CHAIN(
        draft_token_ids=draft_token_ids,
        target_probs=target_probs,
        uniforms=uniforms,
        draft_probs=draft_probs,
        implementation=implementation,
    )
    return found[0], found[1]
