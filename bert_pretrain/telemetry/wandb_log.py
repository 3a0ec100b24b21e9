"""Sends the log of a run to Weights & Biases (https://docs.wandb.ai).

The environment variables of W&B and `wandb login` determine the mode (online,
offline or off), the account and the server.
"""

import contextlib
import functools
import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import tensorflow as tf

from bert_pretrain import errors, files
from bert_pretrain.telemetry import telemetry_config

# The file is in the model directory, so that a run that resumes is the same
# run in W&B.
RUN_ID_NAME = "wandb_run_id.txt"
_INSTALL = "pip install -c constraints.txt -e '.[wandb]'"
_NOT_VALUES = ("kind", "step")


@contextlib.contextmanager
def following(
    config: telemetry_config.WandbConfig,
    model_dir: str,
    run_config: dict[str, Any],
) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Starts a run in W&B, and ends it with the block.

    Args:
      config: the project.
      model_dir: the folder of the run, whose name is the run's name in W&B.
      run_config: the run's options, as plain values.

    Yields:
      A function that sends a record of `metrics_log.MetricsLog`.

    Raises:
      UserError: if W&B is not installed, or the login fails.
    """
    if not config.wandb:
        yield lambda record: None
        return
    run = _start(config.wandb, model_dir, run_config)
    try:
        yield _Sender(run)
    except BaseException:
        run.finish(exit_code=1)  # The run is incomplete; it may resume.
        raise
    run.finish()


def _start(project: str, model_dir: str, run_config: dict[str, Any]) -> Any:
    """Starts or resumes a run in W&B, offline if W&B does not answer.

    Returns:
      The `wandb.Run`.
    """
    try:
        import wandb
    except ImportError as error:
        raise errors.UserError(
            f"--wandb={project}: the package wandb is not installed; run "
            f"{_INSTALL}."
        ) from error
    begin = functools.partial(
        wandb.init,
        project=project,
        name=os.path.basename(model_dir.rstrip("/")),
        id=_run_id(model_dir),
        resume="allow",
        config=run_config,
        # W&B writes only local files. Without a folder it uses WANDB_DIR.
        dir=None if "://" in model_dir else model_dir,
        reinit="create_new",
        # The address of a git repository may contain a password.
        settings=wandb.Settings(console="off", disable_git=True),
    )
    try:
        return begin()
    except (wandb.errors.UsageError, wandb.errors.AuthenticationError) as error:
        raise errors.UserError(
            f"--wandb={project}: {str(error).rstrip('.')}; run wandb login, or "
            "set WANDB_MODE=offline."
        ) from error
    except wandb.errors.CommError as error:
        # A run that restarts at night must not depend on W&B's server.
        errors.warn(
            f"W&B does not answer ({' '.join(str(error).split())}); "
            "the log is kept for `wandb sync`."
        )
        return begin(mode="offline")


def _run_id(model_dir: str) -> str:
    """The run's id in W&B, which is made at the first call."""
    path = f"{model_dir}/{RUN_ID_NAME}"
    if not tf.io.gfile.exists(path):
        files.write_text(path, secrets.token_hex(8))
    return files.read_text(path).strip()


class _Sender:
    """Sends records until one cannot be sent."""

    def __init__(self, run: Any) -> None:
        self._run = run
        self._is_broken = False

    def __call__(self, record: Mapping[str, Any]) -> None:
        # W&B does not accept a step twice. After a crash the repeated steps
        # have the same values. After a rollback they have other values; W&B
        # gets only the steps after the repeated ones.
        if self._is_broken or record["step"] < self._run.step:
            return
        values = {
            f"{record['kind']}/{name}": value
            for name, value in record.items()
            if name not in _NOT_VALUES and value is not None
        }
        try:
            self._run.log(values, step=record["step"])
        # Any error: a failure of W&B must not end a run of days.
        except Exception as error:
            self._is_broken = True
            errors.warn(
                f"W&B gets no more records ({error}); metrics.jsonl has them "
                "all."
            )
