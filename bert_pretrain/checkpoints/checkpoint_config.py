"""Options of the model directory and its checkpoints."""

import dataclasses

from bert_pretrain import errors, options

_NOT_IN_PATHS = "[", "\\"


@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckpointConfig(options.Options):
    """The folder of the run, and how often the run is saved."""

    model_dir: str = options.option(
        "Folder of the run; the same command, run again, resumes it.",
        changes_result=False,
    )
    checkpoint_every_steps: int = options.option(
        "Steps between checkpoints; a checkpoint is saved at the end of the "
        "loop that reaches such a step, and always at the end of the run.",
        1000,
        changes_result=False,
        at_least=1,
    )
    checkpoint_every_minutes: float = options.option(
        "Save also when so much time has passed since the last checkpoint; 0 "
        "to count only steps.",
        30.0,
        changes_result=False,
        at_least=0,
    )
    keep_checkpoints: int = options.option(
        "How many of the newest checkpoints are kept, in addition to the "
        "best one.",
        3,
        changes_result=False,
        at_least=1,
    )
    allow_changed_options: bool = options.option(
        "Resume even if options that change the result differ from those "
        "that the run began with.",
        False,
        changes_result=False,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        # TensorFlow reads the name of a checkpoint as a pattern.
        if wrong := [c for c in _NOT_IN_PATHS if c in self.model_dir]:
            raise errors.UserError(
                f"--model_dir={self.model_dir}: TensorFlow cannot read a "
                f"checkpoint whose path holds {wrong[0]}; give another folder."
            )
