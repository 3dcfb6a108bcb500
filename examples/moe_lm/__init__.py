"""Train, quantise and serve a byte-level mixture-of-experts language model built from jax_aiter's ops."""
