"""What `--check=hazard` finds: deletes one s_waitcnt or s_barrier of a kernel at a time and runs it.

python vgpu/benchmarks/mutation.py [--per-object N] [--all] [FOLDER...]

A FOLDER holds launches, recorded with `VGPU_RECORD=FOLDER vgpu run ...`; folders in it are families, which the second table counts
apart. Without one the launches of `tests/aiter` are recorded first, which needs AITER as those tests do. Of every recorded kernel
the instructions that ran are mutated in the loaded copy, s_nop 0 in their place: N of them drawn at random (default 6), or with
--all every one. A mutant counts as found when a hazard is reported that the unmutated kernel does not have, and as changed when
it fails or leaves other bytes in memory.
"""

from __future__ import annotations

import argparse
import collections
import json
import random
import re
import sys
import tempfile
import time
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(FOLDER / "benchmarks"), str(FOLDER / "tests/isa")]

import numpy as np
from launches import Launch, Stage
from machine import CHECK_MEMORY, COLLECT_HAZARDS, Machine, library_path

S_NOP, S_WAITCNT, S_BARRIER, S_ENDPGM = 0xBF800000, 0xBF8C, 0xBF8A, 0xBF81
FIRST_LIMIT = 50_000_000  # instructions of an unmutated launch; a mutant gets ten times what that took
CHECKS = CHECK_MEMORY | COLLECT_HAZARDS


def record_tests(folder: Path) -> None:
    """The launches of tests/aiter, one of each kernel, in a folder for each family."""
    import pytest

    sys.path.insert(0, str(FOLDER / "tests/aiter"))
    import launching

    plain = launching.run

    def run(machine, path, kernel, args, grid, threads=1):
        memory = {pointer: buffer.numpy().tobytes() for pointer, buffer in machine.live.items()}
        family = path.parts[path.parts.index("hsa") + 2]
        Launch(machine.arch, kernel, path.read_bytes(), grid, (256, 1, 1), 0, args, memory).save(folder / family)
        return plain(machine, path, kernel, args, grid, threads)

    launching.run = run
    tests = [str(p) for p in sorted((FOLDER / "tests/aiter").glob("test_*.py")) if p.stem != "test_disassembly"]
    options = [
        "-q",
        "-m",
        "exhaustive or not exhaustive",
        "-c",
        str(FOLDER / "pyproject.toml"),
        f"--rootdir={FOLDER}",
        "-p",
        "no:cacheprovider",
    ]
    if status := pytest.main([*options, *tests]):
        raise SystemExit(status)


def keys(hazards: list[str]) -> set[tuple[str, ...]]:
    """What kind between which instructions: the lane and the wave that met it first do not matter."""
    kind = r"RAW|WAR|WAW|wait states|overwritten|read"
    return {(re.findall(kind, h.split("hazard: ", 1)[1])[0], *re.findall(r"pc (0x\w+)", h)) for h in hazards}


def name_of(word: int) -> str:
    """What the instruction waits for."""
    if word >> 16 == S_BARRIER:
        return "s_barrier"
    vm, lgkm = (word & 15) | (word >> 14 & 3) << 4, word >> 8 & 15
    return "s_waitcnt " + " ".join(n for n, waits in (("vmcnt", vm < 63), ("lgkmcnt", lgkm < 15)) if waits)


def ends(code: np.ndarray, executed: np.ndarray, index: int) -> bool:
    """Nothing but the end of the program comes after it."""
    following = code[executed[executed > index]] >> 16
    return len(following) > 0 and int(following[following != S_WAITCNT][0]) == S_ENDPGM


class Result(dict):
    """One kernel's: hazards of the unmutated one, CPU seconds without and with the check, mutants."""


def examine(launch: Launch, machine: Machine, family: str, count: int | None, rng: random.Random) -> Result:
    stage = Stage(launch, machine)
    try:
        code = machine.code(stage.module)
        begin = time.process_time()
        counts, expected = stage.run(CHECK_MEMORY, FIRST_LIMIT)
        middle = time.process_time()
        _, again = stage.run(CHECKS, FIRST_LIMIT)
        seconds = middle - begin, time.process_time() - middle
        assert again == expected, f"{launch.kernel}: the check changed the result"
        known, reports = keys(machine.hazards()), machine.hazards()
        executed = machine.executed()
        targets = [int(i) for i in executed if int(code[i]) >> 16 in (S_WAITCNT, S_BARRIER)]
        chosen = targets if count is None else rng.sample(targets, min(count, len(targets)))
        mutants = []
        for index in chosen:
            machine.poke(stage.module, index, S_NOP)
            failure = ""
            try:
                _, found = stage.run(CHECKS, 10 * counts[2])
            except RuntimeError as error:
                found, failure = None, str(error)
            new = [h for h in machine.hazards() if keys([h]) - known]
            machine.poke(stage.module, index, int(code[index]))
            mutants.append({"index": index, "what": name_of(int(code[index])), "changed": found != expected, "failure": failure,
                            "found": bool(new), "report": new[0] if new else "", "last": ends(code, executed, index)})  # fmt: skip
        return Result(kernel=launch.kernel, family=family, arch=launch.arch, instructions=counts[2], seconds=seconds,
                      hazards=reports, targets=len(targets), mutants=mutants)  # fmt: skip
    finally:
        stage.close()


def table(results: list[Result], by_family: bool) -> str:
    """Counts of mutants by what was deleted, or by the folder that the launch came from."""
    rows: dict[str, collections.Counter] = collections.defaultdict(collections.Counter)
    for result, mutant in ((r, m) for r in results for m in r["mutants"]):
        for row in (result["family"] if by_family else mutant["what"], "all"):
            rows[row]["mutants"] += 1
            rows[row]["found"] += mutant["found"]
            rows[row]["changed"] += mutant["changed"]
            rows[row]["changed, not found"] += mutant["changed"] and not mutant["found"]
            neither = not (mutant["changed"] or mutant["found"])
            rows[row]["neither"] += neither
            rows[row]["of these the program's last"] += neither and mutant["last"]
    columns = ["mutants", "found", "changed", "changed, not found", "neither", "of these the program's last"]
    lines = [f"| {'from' if by_family else 'deleted'} | " + " | ".join(columns) + " |", "| --- |" + " ---: |" * len(columns)]
    for name in sorted(rows, key=lambda n: (n == "all", n)):
        lines.append(f"| {name} | " + " | ".join(str(rows[name][c]) for c in columns) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Deletes one wait or barrier of a kernel at a time and says what --check=hazard finds."
    )
    parser.add_argument("folders", nargs="*", type=Path, metavar="FOLDER", help="recorded launches; none: those of tests/aiter")
    parser.add_argument("--per-object", type=int, default=6, metavar="N", help="mutants of each kernel (default: %(default)s)")
    parser.add_argument("--all", action="store_true", help="every instruction that ran")
    parser.add_argument("--record", type=Path, metavar="FOLDER", help="only records the launches of tests/aiter")
    parser.add_argument("--only", default="", metavar="REGEX", help="kernels whose name matches")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keeps every mutant and report")
    args = parser.parse_args()
    if args.record:
        record_tests(args.record)
        return
    results, machines, refused, rng = [], {}, [], random.Random(0)
    seen: set[tuple[str, bytes]] = set()
    with tempfile.TemporaryDirectory() as temporary:
        if not args.folders:
            record_tests(Path(temporary))
        for path in sorted(p for folder in args.folders or [Path(temporary)] for p in folder.rglob("*.launch")):
            launch = Launch.load(path)
            if not re.search(args.only, launch.kernel) or (launch.kernel, launch.image) in seen:
                continue
            seen.add((launch.kernel, launch.image))
            machine = machines.setdefault(launch.arch, Machine(launch.arch, library_path()))
            try:
                results.append(examine(launch, machine, path.parent.name, None if args.all else args.per_object, rng))
            except RuntimeError as error:
                refused.append((launch.kernel, str(error)))
            if args.json:
                args.json.write_text(json.dumps({"results": results, "refused": refused}, indent=0))
    if not results:
        raise SystemExit("no launches")
    print(f"{table(results, by_family=False)}\n\n{table(results, by_family=True)}")
    plain, checked = (sum(r["seconds"][i] for r in results) for i in (0, 1))
    targets = sum(r["targets"] for r in results)
    print(f"\n{len(results)} kernels, {targets} waits and barriers that ran; {len(refused)} kernels failed unmutated")
    for family in sorted({r["family"] for r in results}):
        mine = [bool(r["hazards"]) for r in results if r["family"] == family]
        print(f"{family}: {len(mine)} kernels, of these {sum(mine)} have hazards unmutated")
    print(f"the check takes {checked / plain:.1f} times as long: {plain:.2f} s without, {checked:.2f} s with it")


if __name__ == "__main__":
    main()
