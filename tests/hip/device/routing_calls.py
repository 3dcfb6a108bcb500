"""Calls of the routers and of moe_sorting that AITER's HIP kernels take, with oracles in float64 numpy of their own."""

from __future__ import annotations

import itertools

import jax.numpy as jnp
import numpy as np

from tests.oracle import ROUNDOFF, assert_within, f64

UNIT = ROUNDOFF["float32"]
FLOAT = ("float32", "bfloat16", "float16")
#: of scores that are told apart: far more than float32 arithmetic errs.
GAP = 1e-6


def _logits(tokens: int, experts: int, dtype: str):
    """All different in a row, in bfloat16 of up to 512."""
    rows = [np.random.default_rng(1000 * tokens + row).permutation(experts) for row in range(tokens)]
    return jnp.asarray(np.stack(rows) / 16 - experts / 32, dtype)


def _softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def _sigmoid(x):
    return 1 / (1 + np.exp(-x))


def _chosen(score, topk, groups=1, topk_group=1, best=1):
    """Ids of the best, which differ by more than `GAP`."""
    grouped = np.sort(score.reshape(len(score), groups, -1), -1)[..., ::-1]
    by_group = grouped[..., :best].sum(-1)
    for values, count in ((by_group, topk_group), (score, topk)):
        assert (np.diff(np.sort(values, -1), axis=-1) > GAP).all() or count == values.shape[1]
    kept = np.argsort(-by_group, -1)[:, :topk_group]
    mask = np.zeros_like(by_group, bool)
    np.put_along_axis(mask, kept, True, -1)
    masked = np.where(np.repeat(mask, score.shape[1] // groups, 1), score, -np.inf)
    return np.argsort(-masked, -1, kind="stable")[:, :topk]


def _check(out, ids, weights, error, renormalize, factor):
    """`weights` are known within `error` before they are divided by their sum."""
    np.testing.assert_array_equal(out[1], ids)
    if renormalize:
        total = weights.sum(-1, keepdims=True)
        error = error / total + weights / total * error.sum(-1, keepdims=True) / total
        weights = weights / total
    assert_within(out[0], factor * weights, factor * (error + 8 * UNIT * weights))


def plain(make):
    """Softmax: up to 512 experts in a power of two have a kernel each, others two; sigmoid: kernels of up to 8, 16, ... experts."""
    sizes = {
        "topk_softmax": [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 5, 60, 160, 257],
        "topk_sigmoid": [1, 8, 13, 32, 33, 128, 192],
    }
    for op, (dtype, renormalize) in itertools.product(sizes, itertools.product(FLOAT, (True, False))):
        sigmoid = op == "topk_sigmoid"
        if sigmoid and (dtype == "float32" or renormalize):
            continue  # later releases than 0.1.7 alone
        for tokens, experts in itertools.product((1, 9) if sigmoid else (1, 9, 33), sizes[op]):
            if (tokens != 9 and experts not in (8, 60, 192)) or (experts > 512 and dtype == "bfloat16"):
                continue  # no 1024 numbers are apart there
            logits, topk = _logits(tokens, experts, dtype), min(experts, 6)
            x = f64(logits)

            def check(out, x=x, topk=topk, renormalize=renormalize, score=_sigmoid if sigmoid else _softmax):
                ids, scores = _chosen(x, topk), score(x)
                weights = np.take_along_axis(scores, ids, 1)
                # exp errs by a few units and by its argument's rounding; the sum is one of x.shape[1] terms
                _check(out, ids, weights, UNIT * (np.abs(x).max() + x.shape[1] / 8 + 8) * weights, renormalize, 1.0)

            name = f"{tokens}x{experts}-{dtype}{'-renormalize' * renormalize}"
            yield make(op, name, {"gating_output": logits}, {"topk": topk, "renormalize": renormalize}, check)
    yield _with_nan(make, "topk_softmax", {"topk": 2, "renormalize": True}, {})


def _softplus(x):
    return np.sqrt(np.log1p(np.exp(x)))


#: a wave sorts the scores of 64, 128, 256 or 384 experts; softmax has kernels of these and 640; others lie in LDS, read by 4, 2, 1.
GATED = {"softmax": (64, 256, 640, 60, 34), "sigmoid": (64, 128, 256, 384, 60, 34, 33), "sqrtsoftplus": (64, 256, 384, 516, 33)}


def gating(make):
    """Scores of three kinds, chosen by with a bias or without."""
    scores = {"softmax": _softmax, "sigmoid": _sigmoid, "sqrtsoftplus": _softplus}
    for (kind, sizes), dtype, bias in itertools.product(GATED.items(), FLOAT, (None, "float32", "bfloat16")):
        if (dtype, bias) == ("float16", "bfloat16"):
            continue  # refused: AITER has none
        for i, experts in enumerate(sizes if bias is None else sizes[:2]):
            if dtype == "bfloat16" and experts > 512:
                continue  # no so many numbers are apart there
            logits = _logits(5, experts, dtype) / (1 if experts <= 256 else 4)  # so near that their scores are apart
            renormalize, factor, topk = i % 2 == 0, 2.5 if i else 1.0, 6
            operands, x = {"gating_output": logits}, f64(logits)
            by = x
            if bias is not None:
                operands["correction_bias"] = jnp.asarray(np.random.default_rng(experts).integers(-9, 9, experts) / 61, bias)
                by = scores[kind](x) + f64(operands["correction_bias"])

            def check(out, x=x, by=by, kind=kind, renormalize=renormalize, factor=factor, topk=topk):
                score = scores[kind](x)
                ids = _best(by, topk)
                weights = np.take_along_axis(score, ids, 1)
                error = UNIT * (np.abs(x).max() + x.shape[1] / 8 + 8) * weights
                if kind == "sqrtsoftplus":  # 1 + exp(x) is rounded to a unit of what is at least 1, and its logarithm has a root
                    error = UNIT * (4 + 4 * weights**2) / (2 * weights)
                _check(out, ids, weights, error, renormalize, factor)

            params = {"topk": topk, "need_renorm": renormalize, "routed_scaling_factor": factor, "score_func": kind}
            yield make("topk_gating", f"{kind}-{experts}-{dtype}-{bias}", operands, params, check)


def _best(score, topk):
    """Ids of the best, which, and what comes next, differ by more than `GAP`."""
    ids = np.argsort(-score, -1, kind="stable")[:, :topk]
    best = -np.sort(-score, -1)[:, : topk + 1]
    assert (-np.diff(best, axis=-1) > GAP).all()
    return ids


def grouped(make):
    """A vector of 1, 2 or 4 logits a lane; 1, 2, 4 or 8 groups; the kernel for DeepSeek-V3, which chooses otherwise."""
    shapes = [(32, 8, 3, 6), (160, 8, 3, 6), (8, 2, 1, 3), (16, 4, 2, 5), (64, 1, 1, 4), (67, 1, 1, 7), (34, 1, 1, 7)]
    shapes += [(256, 8, 4, 6), (256, 8, 4, 8)]
    for (experts, groups, topk_group, topk), dtype, renormalize in itertools.product(shapes, FLOAT, (False, True)):
        logits = _logits(5, experts, dtype)
        correction_bias = jnp.asarray(np.random.default_rng(experts).integers(-9, 9, experts) / 61, dtype)
        x, bias = f64(logits), f64(correction_bias)
        shared = {"topk": topk, "num_expert_group": groups, "topk_group": topk_group, "renormalize": renormalize}
        name = f"{experts}-{groups}-{topk_group}-{topk}-{dtype}{'-renormalize' * renormalize}"
        for scoring in ("softmax", "sigmoid"):

            def check(out, x=x, shared=shared, score=_softmax if scoring == "softmax" else _sigmoid):
                ids = _chosen(x, shared["topk"], shared["num_expert_group"], shared["topk_group"])
                weights = np.take_along_axis(score(x), ids, 1)
                error = UNIT * (np.abs(x).max() + x.shape[1] / 8 + 8) * weights
                _check(out, ids, weights, error, shared["renormalize"], 16.0)

            params = {**shared, "scoring_func": scoring, "routed_scaling_factor": 16.0}
            yield make("grouped_topk", f"{name}-{scoring}", {"gating_output": logits}, params, check)
        factor = 2.5 if renormalize or topk != 8 else 1.0  # refused: AITER's kernel leaves it out

        def biased(out, x=x, bias=bias, shared=shared, factor=factor):
            score = _sigmoid(x)
            ids = _chosen(score + bias, shared["topk"], shared["num_expert_group"], shared["topk_group"], best=2)
            weights, sums = (np.take_along_axis(values, ids, 1) for values in (score, score + bias))
            # release 0.1.7 takes the bias from the sum again
            error = UNIT * ((np.abs(x).max() + 8) * weights + 2 * np.abs(sums))
            _check(out, ids, weights, error, shared["renormalize"], factor)

        operands = {"gating_output": logits, "correction_bias": correction_bias}
        yield make("biased_grouped_topk", name, operands, {**shared, "routed_scaling_factor": factor}, biased)
    how = {"topk": 2, "num_expert_group": 8, "topk_group": 8, "renormalize": False, "routed_scaling_factor": 1.0}
    yield _with_nan(make, "grouped_topk", {**how, "scoring_func": "softmax"}, {})
    yield _with_nan(make, "biased_grouped_topk", how, {"correction_bias": jnp.zeros(32, jnp.float32)})


def many(make, tokens: int):
    """So many tokens that AITER takes moe_fused_gate, which has groups of 32 experts here: 8, 4 or 2 of them."""
    for (groups, topk_group, topk), dtype in itertools.product(((8, 4, 8), (4, 2, 6), (2, 1, 3)), FLOAT):
        experts = 32 * groups
        logits = _logits(tokens, experts, dtype)
        correction_bias = jnp.asarray(np.random.default_rng(experts).integers(-9, 9, experts) / 61, dtype)
        x, bias = f64(logits), f64(correction_bias)
        params = {"topk": topk, "num_expert_group": groups, "topk_group": topk_group, "renormalize": True}

        def check(out, x=x, bias=bias, params=params):
            score = _sigmoid(x)
            ids, apart = _chosen_apart(score + bias, params)
            weights = np.take_along_axis(score, ids, 1)
            error = UNIT * (np.abs(x).max() + 8) * weights
            assert apart.mean() > 0.9
            _check([np.asarray(got)[apart] for got in out], ids[apart], weights[apart], error[apart], True, 2.5)

        operands = {"gating_output": logits, "correction_bias": correction_bias}
        yield make("biased_grouped_topk", f"{groups} groups-{dtype}", operands, {**params, "routed_scaling_factor": 2.5}, check)


def _chosen_apart(score, params):
    """As `_chosen`, and the rows in which what is chosen differs from what is not, and in itself, by more than `GAP`."""
    groups, kept, topk = (params[name] for name in ("num_expert_group", "topk_group", "topk"))
    grouped = np.sort(score.reshape(len(score), groups, -1), -1)[..., ::-1]
    by_group = grouped[..., :2].sum(-1)
    order = np.argsort(-by_group, -1)
    mask = np.zeros_like(by_group, bool)
    np.put_along_axis(mask, order[:, :kept], True, -1)
    masked = np.where(np.repeat(mask, score.shape[1] // groups, 1), score, -np.inf)
    best, sums = -np.sort(-masked, -1)[:, : topk + 1], np.take_along_axis(by_group, order, -1)
    apart = (-np.diff(best, axis=-1) > GAP).all(-1) & (sums[:, kept - 1] - sums[:, kept] > GAP)
    return np.argsort(-masked, -1, kind="stable")[:, :topk], apart


def _with_nan(make, op, params, more):
    """A row of NaN has ids of experts, and the other rows are what they were: the sole largest logit is in each one's choice."""
    x = np.random.default_rng(5).permutation(4 * 32).reshape(4, 32) / 64.0
    x[1] = np.nan

    def check(out, x=x):
        ids = np.asarray(out[1])
        assert ((ids >= 0) & (ids < 32)).all()
        others = [0, 2, 3]
        np.testing.assert_array_equal(ids[others, 0], x[others].argmax(-1))
        assert np.isfinite(np.asarray(out[0])[others]).all()

    return make(op, "a row of nan", {"gating_output": jnp.asarray(x, jnp.float32), **more}, params, check)


SORTED = [  # tokens, topk, experts, block_size, masked
    (8, 2, 4, 4, False), (5, 2, 6, 4, True), (1, 3, 7, 32, False), (31, 1, 8, 32, False), (32, 8, 64, 32, True),
    (33, 8, 256, 32, False), (32, 2, 8, 1, False), (200, 8, 256, 64, True), (513, 4, 32, 32, False), (601, 3, 40, 16, True),
    (2048, 2, 8, 32, False), (2051, 3, 16, 16, True),
]  # fmt: skip


def sorting(make):
    """One launch while a board of tokens and experts fits LDS, two of fewer than 2048 tokens, else four."""
    for tokens, topk, experts, block, masked in SORTED:
        rng = np.random.default_rng(tokens)
        ids = np.argsort(rng.random((tokens, experts)), 1)[:, :topk].astype(np.int32)
        mask = (np.arange(experts) % 3 != 1) * np.int32(5) if masked else None
        yield _sorted(make, f"{tokens}x{topk}-{experts}-{block}{'-masked' * masked}", ids, experts, block, mask)
    one = np.full((70, 1), 3, np.int32)
    yield _sorted(make, "one takes everything", one, 9, 32, None)
    yield _sorted(make, "one that is masked takes everything", one, 9, 32, np.eye(9, dtype=np.int32)[2])
    outside = np.array([[-1, 2], [9, 0], [2**30, -(2**31)], [8, 1]], np.int32)
    yield _sorted(make, "ids out of range", np.tile(outside, (150, 1)), 9, 16, None)
    yield _sorted(make, "none in range", np.full((5, 1), -7, np.int32), 4, 4, None)


def _sorted(make, name, ids, experts, block, mask):
    weights = np.random.default_rng(ids.size).random(ids.shape).astype(np.float32)
    operands = {"topk_ids": jnp.asarray(ids), "topk_weights": jnp.asarray(weights)}
    operands |= {} if mask is None else {"expert_mask": jnp.asarray(mask, jnp.int32)}

    def check(out):
        for got, want in zip(out, _lists(ids, weights, experts, block, mask), strict=True):
            np.testing.assert_array_equal(got, want)

    return make("moe_sorting", name, operands, {"num_experts": experts, "block_size": block}, check)


def _lists(ids, weights, experts, block, mask):
    """Expert by expert, as AITER's format is described."""
    tokens, topk = ids.shape
    length = tokens * topk + experts * block - topk
    rows, kept = np.full(length, topk << 24 | tokens, np.int32), np.zeros(length, np.float32)
    owners, row, here = [], 0, 0
    for expert in range(experts):
        if mask is not None and not mask[expert]:
            continue
        token, slot = np.nonzero(ids == expert)
        rows[row : row + len(token)], kept[row : row + len(token)] = slot << 24 | token, weights[token, slot]
        blocks = -(-len(token) // block)
        owners += [here] * blocks
        row, here = row + blocks * block, here + 1
    spare = -(-length // block) - len(owners)
    return rows, kept, np.asarray(owners + [-1] * spare, np.int32), np.asarray([row, tokens], np.int32)
