"""Manifold-constrained hyper-connections (DeepSeek-V4): several streams of residuals, mixed before and behind each layer."""
