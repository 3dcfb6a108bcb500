"""One decoder for the language models people have: its layers are chosen by a Hugging Face ``config.json``.

A model is data: `architectures` reads a configuration into a list of layers (`config`), `weights` a checkpoint
(`safetensors_files`, `gguf_file`) into a tree of arrays, and `decoder` runs any such pair on jax_aiter's ops.
``python -m examples.llm`` chats.
"""
