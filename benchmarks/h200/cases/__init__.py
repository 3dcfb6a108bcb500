"""The calls of each family, with float64 oracles that share no code with what they test."""
