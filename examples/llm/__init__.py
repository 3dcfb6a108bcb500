"""One decoder for the language models people have: its layers are chosen by a Hugging Face ``config.json``.

A model is data: `architectures` reads a configuration into a list of layers (`config`), `checkpoint.weights` a checkpoint
(safetensors, GGUF) into a tree of arrays, and `decoder` runs any such pair on jax_aiter's ops. ``python -m examples.llm`` chats,
``python -m examples.llm.server`` serves, ``python -m examples.llm.distributed`` spreads a model over devices.
"""
