"""Attention over dense, packed and paged sequences."""
