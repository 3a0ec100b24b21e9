"""Options of an export."""

import dataclasses
from typing import Literal

from bert_pretrain import options


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportConfig(options.Options):
    """Which model is exported, and where to."""

    model_dir: str = options.option("Folder of the training run.")
    checkpoint: Literal["newest", "best"] = options.option(
        "Which checkpoint; best is the one with the least held-out loss.",
        "newest",
    )
    output_dir: str = options.option("Folder to write to; local or gs://.")
