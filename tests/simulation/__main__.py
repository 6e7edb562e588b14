"""Tells stories by their seeds: `python -m tests.simulation --seeds 200 --from 1 -j 2`."""

from __future__ import annotations

import argparse
import gc
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.simulation.known import OPEN

if TYPE_CHECKING:
    from collections.abc import Sequence

WARM = (3, 42)
"""Stories that ask models, mend and commit."""
LOADED = (
    *(f"runner.engine.{part}" for part in ("commit", "delegate", "mend", "prompt", "push")),
    *("runner.engine.rejoin", "runner.historyfile", "runner.models.scripted", "runner.workers"),
    "tests.simulation.checks",
)
"""What runs import late: once is enough, for all lives are forks."""
_SHOWN = 3_500
"""Bytes of what is told of a seed: less than a pipe takes in one piece."""


def main() -> int:
    """Tell the stories; return 1 when one of them went wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation")
    parser.add_argument("--seeds", type=int, default=200, help="how many")
    parser.add_argument("--from", dest="first", type=int, default=1, help="the first")
    parser.add_argument("--only", type=int, nargs="*", help="these instead")
    parser.add_argument("-j", dest="jobs", type=int, default=1, help="processes")
    parser.add_argument("-x", dest="first_only", action="store_true", help="stop at the first")
    parser.add_argument("--keep", metavar="DIR", help="leave what was written there")
    given = parser.parse_args()
    if os.environ.get("PYTHONHASHSEED") != "0":
        # The order of sets is a part of the story.
        os.environ["PYTHONHASHSEED"] = "0"
        os.execv(sys.executable, [sys.executable, "-m", "tests.simulation", *sys.argv[1:]])
    chosen = range(given.first, given.first + given.seeds)
    seeds = given.only or [seed for seed in chosen if seed not in OPEN]
    began = time.monotonic()
    _load()
    results = _spread(seeds, given)
    return _sum_up(results, time.monotonic() - began)


def _load() -> None:
    """Import all that runs need, once, for all lives are forks."""
    from tests.simulation import clock

    clock.install()
    for name in LOADED:
        import_module(name)
    from tests.simulation import lives, story

    for seed in WARM:
        with tempfile.TemporaryDirectory(prefix="sim-warm-") as top:
            lives.warm_up(story.make(seed), Path(top).resolve())
    gc.collect()
    gc.freeze()


def _spread(seeds: Sequence[int], given: argparse.Namespace) -> list[dict[str, Any]]:
    """Tell each story in one of some processes; print what went wrong as it comes."""
    read, write = os.pipe()
    children: list[int] = []
    jobs, keep = given.jobs, given.keep
    for index in range(jobs):
        child = os.fork()
        if not child:
            os.close(read)
            for seed in seeds[index::jobs]:
                os.write(write, (json.dumps(_one(seed, keep))[:4000] + "\n").encode())
            os._exit(0)
        children.append(child)
    os.close(write)
    results: list[dict[str, Any]] = []
    with os.fdopen(read) as lines:
        for line in lines:
            results.append(json.loads(line))
            _progress(results, len(seeds))
            if given.first_only and results[-1]["wrong"]:
                for child in children:
                    os.kill(child, signal.SIGTERM)
                break
    for child in children:
        os.waitpid(child, 0)
    return results


def _one(seed: int, keep: str | None) -> dict[str, Any]:
    from tests.simulation import checks, lives, story

    base = Path("/dev/shm") if Path("/dev/shm").is_dir() else None
    top = Path(tempfile.mkdtemp(prefix=f"sim-{seed}-", dir=keep or base)).resolve()
    made = story.make(seed)
    try:
        (top / "twin").mkdir()
        twin = last = lives.tell(made, top / "twin", [])
        wrong = [f"uninterrupted: {one}" for one in checks.check(twin, None)]
        if any(life != story.Mishaps() for life in made.lives):
            (top / "run").mkdir()
            most = max(life.moments for life in twin.lives)
            last = lives.tell(made, top / "run", made.lives, most=most)
            wrong += checks.check(last, twin if made.same else None)
    except Exception as error:  # noqa: BLE001  told as what it is, with its seed
        import traceback

        return {
            "seed": seed,
            "wrong": [f"{error!r} {traceback.format_exc()[-2500:]}"],
            "lives": 0,
            "killed": 0,
            "steps": 0,
        }
    finally:
        if not keep:
            shutil.rmtree(top, ignore_errors=True)
    told = "\n".join(wrong)
    return {
        "seed": seed,
        "wrong": [told[-_SHOWN:]] if told else [],
        "lives": len(last.lives),
        "killed": sum(life.killed for life in last.lives),
        "steps": len(made.steps()),
        "code": last.lives[-1].code if last.lives else None,
        "moments": twin.lives[0].moments,
    }


def _progress(results: list[dict[str, Any]], total: int) -> None:
    newest = results[-1]
    for wrong in newest["wrong"]:
        _say(f"\nseed {newest['seed']}: {wrong}")
        _say(f"  again: python -m tests.simulation --only {newest['seed']} --keep /tmp")
    if len(results) % 500 == 0:
        _say(f"{len(results)} of {total}")


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _sum_up(results: list[dict[str, Any]], seconds: float) -> int:
    failed = sorted(one["seed"] for one in results if one["wrong"])
    codes = Counter(one.get("code") for one in results)
    _say(
        f"{len(results)} seeds in {seconds:.1f} s: {sum(o['steps'] for o in results)} steps, "
        f"{sum(o['lives'] for o in results)} lives, {sum(o['killed'] for o in results)} kills; "
        f"exit codes {dict(sorted(codes.items(), key=str))}; {len(failed)} failed"
    )
    if failed:
        _say(f"failed: {failed}")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
