"""A folder of safetensors files, with or without an index: every tensor is read from its file when it is asked for."""

import json
import math
from collections.abc import Collection
from pathlib import Path

import ml_dtypes
import numpy as np
from safetensors import safe_open

FP8 = {"F8_E4M3": ml_dtypes.float8_e4m3fn, "F8_E5M2": ml_dtypes.float8_e5m2}


class SafetensorsFolder:
    """ValueError if the index names a tensor that its file does not hold, or a file outside of the folder."""

    def __init__(self, folder: str | Path):
        folder = Path(folder)
        index = folder / "model.safetensors.index.json"
        if index.exists():
            places = json.loads(index.read_text())["weight_map"]
            outside = sorted({f for f in places.values() if Path(f).name != f})
            if outside:
                raise ValueError(f"{index} names {outside[0]!r}, which is not a file beside it")
            files = sorted({folder / f for f in places.values()})
        else:
            places, files = None, sorted(folder.glob("*.safetensors"))
        if not files:
            raise ValueError(f"{folder} has no .safetensors files")
        self._files = {path: safe_open(path, framework="numpy") for path in files}
        self._places = {name: path for path, file in self._files.items() for name in file.keys()}  # noqa: SIM118
        missing = sorted(set(places or ()) - self._places.keys())
        if missing:
            raise ValueError(f"{index} lists {missing[0]!r}, which none of its files holds")

    @property
    def names(self) -> Collection[str]:
        return self._places.keys()

    def read(self, name: str) -> np.ndarray:
        path = self._places[name]
        dtype = self._files[path].get_slice(name).get_dtype()
        return _fp8(path, name) if dtype in FP8 else self._files[path].get_tensor(name)


def _fp8(path: Path, name: str) -> np.ndarray:
    """A tensor of a dtype that safetensors' reader for numpy does not know: its bytes, where the (verified) header says."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        entry = json.loads(file.read(size))[name]
    begin, end = entry["data_offsets"]
    if end - begin != math.prod(entry["shape"]):
        raise ValueError(f"{path}: {name} has {end - begin} bytes, its shape {entry['shape']} needs {math.prod(entry['shape'])}")
    data = np.fromfile(path, np.uint8, end - begin, offset=8 + size + begin)
    return data.view(FP8[entry["dtype"]]).reshape(entry["shape"])
