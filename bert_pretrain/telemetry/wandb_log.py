"""The log of a run, sent to Weights & Biases (https://docs.wandb.ai).

Whether it is online, offline or off, who logs in, and at which address, is
W&B's own to know, from its environment variables and `wandb login`.
"""

import contextlib
import dataclasses
import functools
import os
import secrets

import tensorflow as tf

from bert_pretrain import errors, files, options

# In the model directory, so that a run that resumes is the same one there.
RUN_ID_NAME = "wandb_run_id.txt"
_INSTALL = "pip install -c constraints.txt -e '.[wandb]'"
_PLACE = ("kind", "step")


@dataclasses.dataclass(frozen=True, kw_only=True)
class WandbConfig(options.Options):
    wandb: str = options.option(
        "The Weights & Biases project to log to; none if not given. "
        "WANDB_MODE=offline keeps the log for `wandb sync`.",
        "",
        changes_result=False,
    )


@contextlib.contextmanager
def following(config, model_dir, run_config):
    """Yields what sends a record of `metrics_log.MetricsLog` on.

    Args:
      run_config: the run's options, as plain values.

    Raises:
      UserError: if W&B is not installed, or does not let us in.
    """
    if not config.wandb:
        yield lambda record: None
        return
    run = _start(config.wandb, model_dir, run_config)
    try:
        yield _Sender(run)
    except BaseException:
        run.finish(exit_code=1)  # not complete; it may be resumed
        raise
    run.finish()


def _start(project, model_dir, run_config):
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
        # It writes to local files only; else it takes WANDB_DIR.
        dir=None if "://" in model_dir else model_dir,
        reinit="create_new",
        # The address of a repository may hold a password.
        settings=wandb.Settings(console="off", disable_git=True),
    )
    try:
        return begin()
    except (wandb.UsageError, wandb.errors.AuthenticationError) as error:
        raise errors.UserError(
            f"--wandb={project}: {str(error).rstrip('.')}; run wandb login, or "
            "set WANDB_MODE=offline."
        ) from error
    except wandb.CommError as error:
        # What restarts at night must not wait for somebody else's machine.
        errors.warn(
            f"W&B does not answer ({' '.join(str(error).split())}); "
            "the log is kept for `wandb sync`."
        )
        return begin(mode="offline")


def _run_id(model_dir):
    path = f"{model_dir}/{RUN_ID_NAME}"
    if not tf.io.gfile.exists(path):
        files.write_text(path, secrets.token_hex(8))
    return files.read_text(path).strip()


class _Sender:
    """Sends records, until one cannot be sent."""

    def __init__(self, run):
        self._run = run
        self._is_broken = False

    def __call__(self, record):
        # W&B takes no step again: what is done again after a crash is the
        # same, and of what is done again after a rollback the new steps only
        # are told.
        if self._is_broken or record["step"] < self._run.step:
            return
        values = {
            f"{record['kind']}/{name}": value
            for name, value in record.items()
            if name not in _PLACE and value is not None
        }
        try:
            self._run.log(values, step=record["step"])
        # All errors: a run of days must not end because a log of it does.
        except Exception as error:
            self._is_broken = True
            errors.warn(
                f"W&B gets no more records ({error}); metrics.jsonl has them "
                "all."
            )
