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
    max_positions: int | None = options.option(
        "Tokens of the longest text that the exported model takes: cuts the "
        "table of positions; default: all positions.",
        None,
        at_least=1,
        usual="the tokens of the longest row that the run had",
    )
    tensorflow_weights: bool = options.option(
        "Also write tf_model.h5, for TensorFlow's classes of transformers.",
        True,
    )
