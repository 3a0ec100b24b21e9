"""Options of a prediction."""

import dataclasses

from bert_pretrain import errors, options
from bert_pretrain.devices import distribution_config

_ENDINGS = (".jsonl", ".npy")


@dataclasses.dataclass(frozen=True, kw_only=True)
class PredictConfig(options.Options):
    """Which model answers, and for which examples."""

    model_dir: str = options.option(
        "Folder that bert_pretrain.finetune wrote, whose seeds answer "
        "together, or the folder of one seed in it."
    )
    input_file: str = options.option(
        "Examples: .txt with a text in each line, .tsv, .csv, .jsonl, also "
        "with .gz; CoNLL for tagging, SQuAD's .json for question answering."
    )
    output_file: str = options.option(
        "A .jsonl with one object for each example; .npy for embeddings as an "
        "array of float32."
    )
    text_column: str = options.option(
        "The column of the text; default: that of the training file.", ""
    )
    text_pair_column: str = options.option(
        "The column of the second text; default: that of the training file.",
        "",
    )
    devices: distribution_config.DistributionConfig = (
        distribution_config.DistributionConfig()
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.output_file.endswith(_ENDINGS):
            raise errors.UserError(
                f"--output_file={self.output_file}: the name tells the "
                f"format, so it must end with {' or '.join(_ENDINGS)}."
            )
