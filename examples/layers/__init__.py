"""Layers of gpt-oss, DeepSeek-V3 and Qwen3-MoE as a server runs them: new tokens of several sequences over a paged cache.

Each is written once, with the steps that AITER fuses in `parts`, in two forms: ``fused=True`` calls the op that does several
steps in one launch, ``fused=False`` the ops that do one step each.
"""
