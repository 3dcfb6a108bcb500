"""Estimates of time on AMD's devices: their validation against the times in AITER's tuned tables, and tables of ops."""
