"""Clones a checkout and copies its uncommitted changes over: CHECKOUT.py TOP TARGET."""

import shutil
import subprocess
import sys
from pathlib import Path


def listed(top: Path, *options: str) -> list[str]:
    """Return the paths that `git ls-files` names."""
    command = ["git", "-C", str(top), "ls-files", "-z", *options]
    names = subprocess.run(command, check=True, capture_output=True).stdout.decode()
    return [name for name in names.split("\0") if name]


def main() -> None:
    """Clone, then bring the clone up to the work tree."""
    top, target = Path(sys.argv[1]), Path(sys.argv[2])
    subprocess.run(["git", "clone", "--quiet", str(top), str(target)], check=True)
    for name in listed(top, "--cached", "--others", "--exclude-standard"):
        source, copy = top / name, target / name
        if not source.exists() and not source.is_symlink():
            copy.unlink(missing_ok=True)
            continue
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, copy, follow_symlinks=False)


main()
