"""Attempts to run a work unit.

attempt ── temporary error, defect ──▶ another attempt
    │ └─── mistake of the user, last attempt ──▶ Failure
    ▼
summary
"""

import dataclasses
import time
import traceback
from collections.abc import Callable
from typing import Any

from bert_pretrain import errors, file_errors, files
from tfrecord_builders.engines import work_units

NUM_ATTEMPTS = 3
_WAIT_SECONDS = 2.0  # before the second attempt; twice that before the third


@dataclasses.dataclass(frozen=True, kw_only=True)
class Failure:
    """Why a unit failed.

    Attributes:
      traceback: empty unless the cause is a defect of this program.
    """

    reason: str
    traceback: str = ""


def attempt(
    stage: work_units.Stage[Any],
    i: int,
    prefix: str,
    send: Callable[[work_units.Report], None],
) -> Failure | None:
    """Runs unit `i`, and again if another attempt may succeed.

    Returns:
      None if the unit is finished; its summary is written then.
    """
    failure = None
    is_temporary = False
    for number in range(NUM_ATTEMPTS):
        if is_temporary:
            time.sleep(_WAIT_SECONDS * number)
        progress = work_units.UnitProgress(send)
        try:
            summary = stage.run(stage.units[i], prefix, progress)
            progress.flush()
            files.write_json(work_units.summary_path(prefix), summary)
            return None
        # All errors: one failed unit must not stop the others of a long build.
        except Exception as error:
            failure = _failure(
                error, progress.place or stage.name_of(i, prefix)
            )
            is_temporary = file_errors.is_transient(error)
            if isinstance(error, errors.UserError) and not is_temporary:
                break
    return failure


def _failure(error: Exception, name: str) -> Failure:
    reason, trace = str(error), ""
    if not isinstance(error, errors.UserError):
        trace = traceback.format_exc()
        reason = f"{type(error).__name__}: {reason}"
    if name not in reason:
        reason = f"{name}: {reason}"
    return Failure(reason=reason, traceback=trace)
