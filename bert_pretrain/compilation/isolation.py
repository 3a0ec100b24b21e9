"""Calls a function in a process of its own.

A compiler may abort, or the system may kill it for its memory use. A process
also never gives back all the memory that it once used. In a process of its own,
neither harms the caller.
"""

import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from bert_pretrain import errors

_Result = TypeVar("_Result")

_SECONDS_BETWEEN_DOTS = 20
_CHILD = "import sys; from {0} import answer; answer(sys.argv[1])"


class Refused(Exception):
    """A function may raise it, with a reason, for its caller to catch."""


def call(
    function: Callable[..., _Result],
    *args: Any,
    title: str,
    environment: Mapping[str, str] | None = None,
) -> _Result:
    """Calls `function(*args)` in a new process.

    Args:
      function: of a module; function, arguments and result are pickled.
      title: what the function does; printed on standard error.
      environment: additional variables for the process.

    Raises:
      UserError: if the function raises it, or if the process ends without an
        answer.
      Refused: if the function raises it.
      RuntimeError: with the traceback of any other exception.
    """
    with tempfile.TemporaryDirectory() as folder:
        with open(f"{folder}/call", "wb") as file:
            pickle.dump((function, args), file)
        code = _run(folder, title, environment or {})
        try:
            with open(f"{folder}/answer", "rb") as file:
                result, error = pickle.load(file)
        except FileNotFoundError:
            raise errors.UserError(
                f"{title}: {_describe_end(code, f'{folder}/stderr')}"
            ) from None
    if error is None:
        return result
    if isinstance(error, str):
        raise RuntimeError(f"{title}:\n{error}")
    raise error


def answer(folder: str) -> None:
    """Calls the function and writes its result; only the new process calls it.

    Args:
      folder: holds the call, and gets the answer.
    """
    threading.Thread(target=_end_with_the_caller, daemon=True).start()
    with open(f"{folder}/call", "rb") as file:
        function, args = pickle.load(file)
    result: Any = None
    error: Exception | str | None = None
    try:
        result = function(*args)
    except (errors.UserError, Refused) as expected:
        error = expected
    except Exception:
        error = traceback.format_exc()
    with open(f"{folder}/answer.tmp", "wb") as file:
        pickle.dump((result, error), file)
    os.rename(f"{folder}/answer.tmp", f"{folder}/answer")


def _end_with_the_caller() -> None:
    # The read returns when the caller ends, because its end of the pipe is
    # closed then.
    os.read(sys.stdin.fileno(), 1)
    os._exit(1)


def _run(folder: str, title: str, environment: Mapping[str, str]) -> int:
    """Runs the process and prints how long it takes.

    Returns:
      Its exit code.
    """
    start = time.perf_counter()
    print(f"{title} …", end="", file=sys.stderr, flush=True)
    with open(f"{folder}/stderr", "wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-c", _CHILD.format(__name__), folder],
            stdin=subprocess.PIPE,
            stdout=stderr,
            stderr=stderr,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2", **environment},
        )
    try:
        while True:
            try:
                return process.wait(_SECONDS_BETWEEN_DOTS)
            except subprocess.TimeoutExpired:
                print(" …", end="", file=sys.stderr, flush=True)
    finally:
        process.kill()
        if process.stdin:
            process.stdin.close()
        seconds = round(time.perf_counter() - start)
        print(f" {seconds} s", file=sys.stderr, flush=True)


def _describe_end(code: int, path: str) -> str:
    """How a process ended that wrote no answer.

    Args:
      code: as `subprocess` gives it.
      path: of its output.
    """
    with open(path, errors="replace") as file:
        lines = [line.strip() for line in file if line.strip()]
    last = lines[-1] if lines else "it printed nothing"
    if code == -signal.SIGKILL:
        return (
            "the process was killed, most likely because this machine's memory "
            "is used up; stop other programs here, or use a machine with more "
            "memory"
        )
    name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    return f"ended by {name}: {last}"
