"""Where AITER is, as an argument of a worker."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from jax_aiter.kernels.store import Location


def text(where: Location) -> str:
    return json.dumps({**dataclasses.asdict(where), "path": str(where.path), "meta": where.meta and str(where.meta)})


def location(text: str) -> Location:
    fields = json.loads(text)
    return Location(**{**fields, "path": Path(fields["path"]), "meta": fields["meta"] and Path(fields["meta"])})
