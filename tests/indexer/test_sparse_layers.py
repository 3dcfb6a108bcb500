"""Attention layers of DeepSeek-V3.2 and of GLM-5, of odd sizes, made of our ops, against transformers' own modules.

transformers scores keys in float32, our cache holds them in fp8, so the two may choose differently where scores are close. Hence
two claims: our logits differ from theirs by no more than rounding q and k to fp8 (each element by 2^-4 of itself, half a step) can
make; and with the choice that we made put in place of theirs, the layer's outputs agree to float32 rounding (tolerance: sums of a
few dozen terms, 1e-5 of outputs of magnitude 1).
"""

import functools
import importlib

import jax.numpy as jnp
import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers.models.deepseek_v32")
pytest.importorskip("transformers.models.glm_moe_dsa")

import jax_aiter as ja  # noqa: E402

HIDDEN, HEADS, ROPE, NOPE, VALUE, RANK, TOPK, PAGE, TOKENS = 36, 3, 8, 12, 10, 24, 5, 3, 13
INDEX_HEADS, INDEX_DIM = 3, 20
DECODED = 2
#: by the folder of the model: how its classes are called, how its indexer rotates, and the function by which.
MODELS = {
    "deepseek_v32": ("DeepseekV32", "neox", "apply_rotary_pos_emb"),
    "glm_moe_dsa": ("GlmMoeDsa", "gptj", "apply_rotary_pos_emb_interleave"),
}


@pytest.fixture(params=MODELS)
def model(request) -> str:
    return request.param


def of(model, file):
    return importlib.import_module(f"transformers.models.{model}.{file}_{model}")


@functools.cache
def layer(model):
    """Their module, with its inputs: hidden states, tables of cosines and sines."""
    name = MODELS[model][0]
    config = getattr(of(model, "configuration"), f"{name}Config")(
        hidden_size=HIDDEN, num_attention_heads=HEADS, num_key_value_heads=HEADS, q_lora_rank=20, kv_lora_rank=RANK,
        qk_rope_head_dim=ROPE, qk_nope_head_dim=NOPE, v_head_dim=VALUE, index_topk=TOPK, index_head_dim=INDEX_DIM,
        index_n_heads=INDEX_HEADS, num_hidden_layers=1, max_position_embeddings=64, attn_implementation="eager",
    )  # fmt: skip
    torch.manual_seed(0)
    module = getattr(of(model, "modeling"), f"{name}Attention")(config, 0).eval()
    with torch.no_grad():
        for name, weight in module.named_parameters():
            weight.normal_(1.0 if "norm" in name and name.endswith("weight") else 0.0, 0.4 if weight.ndim > 1 else 0.2)
    hidden = torch.randn(1, TOKENS, HIDDEN)
    angles = torch.arange(TOKENS)[:, None] * 100.0 ** (-torch.arange(ROPE // 2) / (ROPE // 2))
    both = torch.cat([angles, angles], -1)[None]
    return module, hidden, (both.cos(), both.sin())


def theirs(model, choice):
    """Their layer over the whole sequence, attending to `choice` [T, k]; -1 is none."""
    module, hidden, tables = layer(model)
    mask = torch.triu(torch.full((TOKENS, TOKENS), torch.finfo(torch.float32).min), 1)[None, None]
    filled = np.where(choice >= 0, choice, choice[:, :1])  # a repetition changes no mask
    chosen = torch.from_numpy(filled.astype(np.int32))[None]
    own, module.indexer.forward = module.indexer.forward, lambda *_, **__: chosen
    try:
        with torch.no_grad():
            return module(hidden, tables, mask)[0][0].numpy()
    finally:
        module.indexer.forward = own


def their_scores(model):
    """Scores [T, T] of their indexer, and how far rounding to fp8 may move them; in float64, from its own weights."""
    module, hidden, (cos, sin) = layer(model)
    indexer, turn = module.indexer, getattr(of(model, "modeling"), MODELS[model][2])
    with torch.no_grad():
        resid = module.q_a_layernorm(module.q_a_proj(hidden))
        q = indexer.wq_b(resid).view(1, TOKENS, INDEX_HEADS, INDEX_DIM)
        k = indexer.k_norm(indexer.wk(hidden)).unsqueeze(2)
        turned = turn(q[..., :ROPE], k[..., :ROPE], cos, sin, unsqueeze_dim=2)
        q, k = (torch.cat([t, x[..., ROPE:]], -1)[0].double() for t, x in zip(turned, (q, k), strict=True))
        weights = indexer.weights_proj(hidden)[0].double() * INDEX_HEADS**-0.5 * indexer.softmax_scale
        scores = torch.einsum("th,ths->ts", weights, torch.relu(torch.einsum("thd,sd->ths", q, k[:, 0])))
        # Smallest steps of a row's scale are 2^-9 of 1/448 of its largest: below 2^-4 of what matters, but not of zero.
        wide_q, wide_k = (x.abs() + x.abs().amax(-1, keepdim=True) * 2.0**-13 for x in (q, k))
        moved = torch.einsum("th,ths->ts", weights.abs(), torch.einsum("thd,sd->ths", wide_q, wide_k[:, 0]))
    return scores.numpy(), moved.numpy() * (2 * 2.0**-4 + 2.0**-8) + 1e-6


def weight(linear):
    return jnp.asarray(linear.weight.detach().numpy())


class Ours:
    """The layer over a paged latent cache and a paged index cache, written token by token where a sequence's table says."""

    def __init__(self, model):
        self.module, hidden, (cos, sin) = layer(model)
        self.index_style = MODELS[model][1]
        self.hidden = jnp.asarray(hidden[0].numpy())
        self.cos, self.sin = (jnp.asarray(x[0, :, : ROPE // 2].numpy()) for x in (cos, sin))
        pages = -(-TOKENS // PAGE)
        self.table = jnp.asarray(np.random.default_rng(1).permutation(pages + 2)[:pages][None].astype(np.int32))
        self.latents = jnp.full((pages + 2, PAGE, 1, RANK + ROPE), jnp.nan, jnp.float32)
        self.index = jnp.full((pages + 2, PAGE, INDEX_DIM + 4), 0xFF, jnp.uint8)

    def norm(self, x, module):
        return ja.rms_norm(x, jnp.asarray(module.weight.detach().numpy()), module.variance_epsilon)

    def turn(self, x, positions, style):
        return ja.rope_positions(x, self.cos, self.sin, positions, rotate_style=style)

    def project(self, positions):
        """Absorbed queries, the indexer's queries with their weights; the caches are written."""
        m, x = self.module, self.hidden[positions]
        slots = self.table[0, positions // PAGE] * PAGE + positions % PAGE
        resid = self.norm(ja.gemm_a16w16(x, weight(m.q_a_proj)), m.q_a_layernorm)
        q = ja.gemm_a16w16(resid, weight(m.q_b_proj)).reshape(-1, HEADS, NOPE + ROPE)
        up = weight(m.kv_b_proj).reshape(HEADS, NOPE + VALUE, RANK)
        absorbed = jnp.einsum("thn,hnl->thl", q[..., :NOPE], up[:, :NOPE], precision="highest")
        latent = ja.gemm_a16w16(x, weight(m.kv_a_proj_with_mqa))
        kv_c = self.norm(latent[:, :RANK], m.kv_a_layernorm)
        k_pe = self.turn(latent[:, None, RANK:], positions, "gptj")[:, 0]
        self.latents = ja.concat_and_cache_mla(kv_c, k_pe, self.latents, slots)
        q = jnp.concatenate([absorbed, self.turn(q[..., NOPE:], positions, "gptj")], axis=-1)
        i = m.indexer
        keys = ja.layer_norm(
            ja.gemm_a16w16(x, weight(i.wk)), *(jnp.asarray(p.detach().numpy()) for p in i.k_norm.parameters()), 1e-6
        )
        keys = self.turn(keys[:, None], positions, self.index_style)[:, 0]
        options = {"quant_block_size": INDEX_DIM, "quant_dtype": jnp.float8_e4m3fn}
        self.index = ja.indexer_k_quant_and_cache(keys, self.index, slots, **options)
        index_q = ja.gemm_a16w16(resid, weight(i.wq_b)).reshape(-1, INDEX_HEADS, INDEX_DIM)
        index_q = self.turn(index_q, positions, self.index_style)
        index_q, scale = ja.per_token_quant(index_q, quant_dtype=jnp.float8_e4m3fn)
        weights = ja.gemm_a16w16(x, weight(i.weights_proj)) * INDEX_HEADS**-0.5 * INDEX_DIM**-0.5 * scale[..., 0]
        return q, index_q, weights, up

    def attend(self, q, choice, up):
        m = self.module
        slots = ja.req_to_global_index(jnp.zeros(len(q), jnp.int32), self.table, choice, block_size=PAGE)
        out = ja.mla_sparse_fwd(q, self.latents, slots, sm_scale=m.scaling, v_head_dim=RANK)
        values = jnp.einsum("thl,hvl->thv", out, up[:, NOPE:], precision="highest")
        return ja.gemm_a16w16(values.reshape(len(q), -1), weight(m.o_proj))

    def prefill(self, count):
        """The first tokens: keys gathered and scored packed."""
        q, index_q, weights, up = self.project(jnp.arange(count))
        offsets = jnp.asarray([0, count], jnp.int32)
        options = {"head_dim": INDEX_DIM, "quant_block_size": INDEX_DIM, "quant_dtype": jnp.float8_e4m3fn}
        keys, scales = ja.cp_gather_indexer_k_quant_cache(self.index, self.table, offsets, total_tokens=count, **options)
        ends = jnp.arange(1, count + 1, dtype=jnp.int32)
        logits = ja.fp8_mqa_logits(index_q, keys, scales[:, 0], weights, jnp.zeros_like(ends), ends)
        choice = ja.top_k_per_row_prefill(logits, jnp.zeros_like(ends), ends, k=TOPK, stable=True)
        return np.asarray(logits), np.asarray(choice), np.asarray(self.attend(q, choice, up))

    def decode(self, position):
        """One more token: its sequence's keys scored where they lie."""
        q, index_q, weights, up = self.project(jnp.asarray([position]))
        of = self.table, jnp.asarray([position + 1], jnp.int32)
        logits = ja.fp8_paged_mqa_logits(index_q, self.index, weights, *of)
        choice = ja.sparse_attn_indexer(index_q, self.index, weights, *of, topk=TOPK, stable=True)
        return np.asarray(logits), np.asarray(choice), np.asarray(self.attend(q, choice, up))


@functools.cache
def ran(model):
    ours = Ours(model)
    steps = [ours.prefill(TOKENS - DECODED), *(ours.decode(p) for p in range(TOKENS - DECODED, TOKENS))]
    logits = np.full((TOKENS, TOKENS), -np.inf)
    row = 0
    for found, _, _ in steps:
        for one in found:
            logits[row, : row + 1] = one[: row + 1]
            assert (one[row + 1 :] == -np.inf).all()
            row += 1
    return logits, *(np.concatenate([step[i] for step in steps]) for i in (1, 2))


def test_the_layer_with_our_choice_is_theirs(model):
    _, choice, out = ran(model)
    want = theirs(model, choice)
    np.testing.assert_allclose(out, want, atol=1e-5 * np.abs(want).max())


def test_our_logits_are_theirs_rounded(model):
    logits, _, _ = ran(model)
    scores, moved = their_scores(model)
    seen = np.tril(np.ones_like(scores, bool))
    assert (np.abs(logits - scores)[seen] <= moved[seen]).all()


def test_our_choice_is_theirs_but_for_close_scores(model):
    _, choice, _ = ran(model)
    scores, moved = their_scores(model)
    common = []
    for t, row in enumerate(choice):
        row = row[row >= 0]
        assert len(row) == min(t + 1, TOPK)
        assert (row <= t).all()
        left = np.setdiff1d(np.arange(t + 1), row)
        if len(left):
            assert ((scores[t, row] + moved[t, row])[:, None] >= (scores[t, left] - moved[t, left])[None]).all()
        best = np.argsort(-scores[t, : t + 1], kind="stable")[:TOPK]
        common.append(len(np.intersect1d(best, row)) / len(row))
    assert np.mean(common) > 0.8
