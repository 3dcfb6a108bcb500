"""Evaluator for the pseudo-code of AMD's instruction-set documents.

The text itself is not in this repository: `source.load()` reads it from the `tinygrad` wheel (which extracted it from
AMD's documents). Programs are parsed to a small tree and evaluated one lane at a time with exact arithmetic, so that
the result owes nothing to the interpreter under test.
"""
