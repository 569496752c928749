"""Runs a command: a user's error is printed as a sentence, and the exit status is what shells expect."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable

from hecompile.cli.interruptions import CANNOT_WRITE, STOPPED, drop_unwritable_output, signals_as_exits
from hecompile.errors import HecompileError, InternalError

__all__ = ["run"]


def run(command: Callable[[], object]) -> None:
    """Run a command. Errors that the user can correct are one sentence and exit status 2; a signal ends the command with 128 plus
    its number."""
    logging.basicConfig(level=logging.WARNING, format="%(name)s: %(message)s")
    try:
        with signals_as_exits():
            _reported(command)
            sys.stdout.flush()
    except OSError as error:
        drop_unwritable_output()
        if isinstance(error, BrokenPipeError):  # the reader of the output has closed it
            raise SystemExit(1) from None
        if error.errno not in CANNOT_WRITE:
            raise
        sys.stderr.write(f"error: cannot write: {error.strerror}\n")
        raise SystemExit(2) from None
    except (KeyboardInterrupt, SystemExit) as end:
        code = end.code if isinstance(end, SystemExit) else 130
        if isinstance(code, int) and code in STOPPED:
            sys.stderr.write(f"stopped by {STOPPED[code]}\n")
        raise SystemExit(code) from None


def _reported(command: Callable[[], object]) -> None:
    """Run a command, and print an error that the user can correct."""
    try:
        command()
    except InternalError:
        raise
    except HecompileError as error:
        sys.stderr.write(f"{error}\n" if str(error).find("error: ") >= 0 else f"error: {error}\n")
        raise SystemExit(2) from None
