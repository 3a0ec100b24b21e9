"""Options of adopting records."""

import dataclasses

from bert_pretrain import errors, options


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdoptConfig(options.Options):
    """The files to copy, and the dataset to make."""

    train_input: tuple[str, ...] = options.option(
        "TFRecord files to train on, or patterns of them. May be repeated."
    )
    eval_input: tuple[str, ...] = options.option(
        "TFRecord files for validation, or patterns of them. They must not be "
        "in another split."
    )
    test_input: tuple[str, ...] = options.option(
        "TFRecord files for the final test, or patterns of them. Default: no "
        "test split.",
        (),
    )
    vocab_file: str = options.option(
        "The vocab.txt with which the files were made."
    )
    lower_case: bool | None = options.option(
        "The text was lower-cased; default: as vocab_file says, in the file "
        "beside it.",
        None,
    )
    strip_accents: bool | None = options.option(
        "Accents were removed; default: as vocab_file says.", None
    )
    output_dir: str = options.option("Folder of the new dataset.")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("train_input", "eval_input"):
            if not getattr(self, name):
                raise errors.UserError(f"{name} is empty; name files to read.")
