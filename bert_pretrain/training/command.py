"""A command that trains: its signals, its TPU, and its exit codes.

This file imports nothing large: a signal may come while TensorFlow is imported.
"""

import sys
from collections.abc import Callable

from bert_pretrain import interruption
from bert_pretrain.devices import preemption, supervision, worker_status


def run(work: Callable[[Callable[[], None]], None], tpu: str) -> int:
    """Lets a command train, and returns its exit code.

    Args:
      work: trains and tells what it reached. It gets `raise_if_asked`, see
        `training_loop.train`, and imports TensorFlow late.
      tpu: see `supervision.run`.

    Raises:
      UserError: if `work` raises it, or the TPU does not start.
    """

    def supervised() -> int:
        # The import of TensorFlow takes seconds, in which a signal may come.
        with (
            interruption.watching() as raise_if_asked,
            preemption.heeding(),
        ):
            return _exit_code(work, raise_if_asked)

    return supervision.run(supervised, tpu)


def _exit_code(
    work: Callable[[Callable[[], None]], None],
    raise_if_asked: Callable[[], None],
) -> int:
    # Imported late: --help and a wrong flag do not wait for TensorFlow.
    from bert_pretrain.devices import pod
    from bert_pretrain.training import recovery

    try:
        raise_if_asked()
        work(raise_if_asked)
    except worker_status.WorkerLost as lost:
        pod.leave(lost)
    except interruption.Interrupted as interrupted:
        return interruption.report(interrupted)
    except recovery.Diverged as diverged:
        print(f"error: {diverged}", file=sys.stderr)
        return recovery.DIVERGED_CODE
    except recovery.Spoilt as spoilt:
        print(f"error: {spoilt}", file=sys.stderr)
        return recovery.SPOILT_CODE
    return 0
