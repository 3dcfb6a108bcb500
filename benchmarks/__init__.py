"""Benchmarks: one command each, a table and a plot."""
