"""Arithmetic and reads that ops of several families use."""
