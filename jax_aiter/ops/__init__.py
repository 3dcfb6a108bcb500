"""The ops, in rooms by family: one op, one file, with the family's shared arithmetic beside it. `catalogue` finds them by name."""
