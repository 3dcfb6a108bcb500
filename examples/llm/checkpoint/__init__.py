"""Checkpoints: their tensors, from safetensors or GGUF, as the arrays that the decoder takes; quantised on the way if asked."""
