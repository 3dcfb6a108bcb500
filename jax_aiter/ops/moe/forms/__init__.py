"""How mixture-of-experts layers are computed where no kernel runs: over groups, batches or rows, forward and backward."""
