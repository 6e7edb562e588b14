"""The command line: argv in, exit code out. A command is imported only when it is used."""

from __future__ import annotations

import errno
import gc
import sys
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["invoke", "main"]

INTERRUPTED = 130
"""Exit code after SIGINT, as shells say it (128 + 2)."""


def main() -> None:
    """Entry point of the `runner` command."""
    # Imports leave no garbage, and looking for it is a tenth of the start; `app` turns it on again.
    gc.disable()
    if sys.argv[1:2] == ["hook"]:
        sys.exit(_hook(sys.argv[1:]))
    sys.exit(invoke(sys.argv[1:]))


def _hook(argv: Sequence[str]) -> int:
    """Answer a hook without click where nothing has to run; never with 2, which says more there.

    That code keeps Claude Code from stopping, and a mistake in its settings would do so each time.
    """
    from runner.hook.quick import answered  # noqa: PLC0415  no other command needs it

    if answered(argv):
        return 0
    code = invoke(argv)
    return 1 if code == 2 and "claude-code" in argv else code


def invoke(argv: Sequence[str]) -> int:
    """Run one command line and return its exit code; everything meant for people goes to stderr."""
    # Not above: a hook that has nothing to do is over before click would be there.
    import click  # noqa: PLC0415

    from runner.cli.app import COMPLETE_VARIABLE, root  # noqa: PLC0415
    from runner.cli.output import tell  # noqa: PLC0415
    from runner.errors import RunnerError, WorkflowError, WorkflowErrors  # noqa: PLC0415

    try:
        code = root.main(
            args=list(argv),
            prog_name="runner",
            standalone_mode=False,
            complete_var=COMPLETE_VARIABLE,
        )
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (WorkflowError, WorkflowErrors) as error:
        tell(str(error))  # begins with `file:line:column`, as editors expect it
        return error.exit_code
    except RunnerError as error:
        tell(f"runner: {error}")
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        tell("runner: interrupted")
        return INTERRUPTED
    except (OSError, BaseExceptionGroup) as error:
        if not _is_short_of_files(error):
            raise
        tell("runner: too many open files: neither a file nor a process could be begun")
        tell("  Raise the limit, as with `ulimit -n 1024`; then: runner exec, or runner resume")
        return 1
    return code if isinstance(code, int) else 0


def _is_short_of_files(error: BaseException) -> bool:
    """Tell whether the process, or the machine, has no more room for open files."""
    if isinstance(error, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", error)
        return any(map(_is_short_of_files, group.exceptions))
    return isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE)
