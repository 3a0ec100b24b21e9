"""A function, called in a process of its own.

Compilers abort, or are killed for the memory that they ask for; and what a
process has once held it does not give back. Neither reaches the caller.
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
from typing import Any

from bert_pretrain import errors

_SECONDS_BETWEEN_WORDS = 20
_CHILD = "import sys; from {0} import answer; answer(sys.argv[1])"


class Refused(Exception):
    """What a function may raise for its caller to catch, with its reason."""


def call(
    function: Callable,
    *args,
    title: str,
    environment: Mapping[str, str] | None = None,
) -> Any:
    """What `function(*args)` returns; all three are pickled.

    Args:
      function: of a module.
      title: what it does, said on standard error while it is waited for.
      environment: variables that the process has beside ours.

    Raises:
      UserError: as the function raised it, or if its process was ended.
      Refused: as the function raised it.
      RuntimeError: with the traceback of whatever else it raised.
    """
    with tempfile.TemporaryDirectory() as folder:
        with open(f"{folder}/call", "wb") as file:
            pickle.dump((function, args), file)
        code = _run(folder, title, environment or {})
        try:
            with open(f"{folder}/answer", "rb") as file:
                answer, error = pickle.load(file)
        except FileNotFoundError:
            raise errors.UserError(
                f"{title}: {_death(code, f'{folder}/stderr')}"
            ) from None
    if error is None:
        return answer
    if isinstance(error, str):
        raise RuntimeError(f"{title}:\n{error}")
    raise error


def answer(folder: str) -> None:
    """What the process does; ours alone call it."""
    threading.Thread(target=_end_with_the_caller, daemon=True).start()
    with open(f"{folder}/call", "rb") as file:
        function, args = pickle.load(file)
    result = error = None
    try:
        result = function(*args)
    except (errors.UserError, Refused) as expected:
        error = expected
    except Exception:
        error = traceback.format_exc()
    with open(f"{folder}/answer-aside", "wb") as file:
        pickle.dump((result, error), file)
    os.rename(f"{folder}/answer-aside", f"{folder}/answer")


def _end_with_the_caller():
    os.read(sys.stdin.fileno(), 1)  # It is closed when the caller ends.
    os._exit(1)


def _run(folder, title, environment):
    """Runs the process to its end, and tells how long it takes."""
    start = time.perf_counter()
    print(f"{title} …", end="", file=sys.stderr, flush=True)
    with open(f"{folder}/stderr", "wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-c", _CHILD.format(__name__), folder],
            stdin=subprocess.PIPE,
            stdout=stderr,
            stderr=stderr,
            env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "2"} | environment,
        )
    try:
        while True:
            try:
                return process.wait(_SECONDS_BETWEEN_WORDS)
            except subprocess.TimeoutExpired:
                print(" …", end="", file=sys.stderr, flush=True)
    finally:
        process.kill()
        process.stdin.close()
        seconds = round(time.perf_counter() - start)
        print(f" {seconds} s", file=sys.stderr, flush=True)


def _death(code, path):
    """How a process ended that left no answer."""
    with open(path, errors="replace") as file:
        lines = [line.strip() for line in file if line.strip()]
    last = lines[-1] if lines else "it said nothing"
    if code == -signal.SIGKILL:
        return (
            "killed, most likely since this machine's memory is used up; end "
            "what else runs here, or take a machine with more memory"
        )
    name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    return f"ended by {name}: {last}"
