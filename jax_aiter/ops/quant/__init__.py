"""Quantisation to fp8 and int8."""
