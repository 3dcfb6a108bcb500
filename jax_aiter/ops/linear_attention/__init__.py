"""Linear attention: gated delta rules and the short causal convolutions in front of them."""
