"""Checkpoints by orbax: the state, each array as it lies over the mesh, and what else a run needs to go on as if never stopped."""

import dataclasses
from pathlib import Path
from typing import Any

import orbax.checkpoint as ocp


@dataclasses.dataclass(frozen=True)
class Progress:
    """position: the number of the next batch, which is also how many steps were made. losses: of those steps, bits per byte.

    settings: those that decide which numbers come next. A run that goes on with others would not be the same run.
    """

    position: int
    losses: list[float]
    settings: dict[str, Any]


class Checkpoints:
    """The last `keep` of a run, written while training goes on; one that was not finished is not there.

    A process may be killed at any time: a checkpoint counts once its folder has its final name, which it gets last.
    """

    def __init__(self, folder: Path, *, keep: int = 2):
        options = ocp.CheckpointManagerOptions(max_to_keep=keep, enable_async_checkpointing=True)
        self._manager = ocp.CheckpointManager(folder.resolve(), options=options)

    def save(self, state: Any, progress: Progress) -> None:
        """Returns when the state is copied; the next `save`, or `close`, waits until it is on disk."""
        items = {"state": ocp.args.StandardSave(state), "progress": ocp.args.JsonSave(dataclasses.asdict(progress))}
        self._manager.save(progress.position, args=ocp.args.Composite(**items))

    def restore(self, abstract: Any, settings: dict[str, Any]) -> tuple[Any, Progress] | None:
        """The latest, its arrays as `abstract` says (of another mesh, perhaps); None if there is none.

        Raises ValueError if it is of a run with other settings.
        """
        step = self._manager.latest_step()
        if step is None:
            return None
        found = self._manager.restore(step, args=ocp.args.Composite(progress=ocp.args.JsonRestore()))
        progress = Progress(**found["progress"])
        other = {n: (progress.settings.get(n), v) for n, v in settings.items() if progress.settings.get(n) != v}
        if other:
            said = ", ".join(f"{name} {was!r} (now {now!r})" for name, (was, now) in other.items())
            raise ValueError(f"the checkpoint of step {step} is of a run with {said}")
        found = self._manager.restore(step, args=ocp.args.Composite(state=ocp.args.StandardRestore(abstract)))
        return found["state"], progress

    def close(self) -> None:
        self._manager.wait_until_finished()
        self._manager.close()
