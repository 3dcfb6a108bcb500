"""The k largest of each row, on AITER's hand-written kernels."""
