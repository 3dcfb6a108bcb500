"""What JAX is told about a record: how it is evaluated, lowered, batched, differentiated and split."""
