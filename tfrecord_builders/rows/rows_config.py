"""Options of rows and of their masks."""

import dataclasses
from typing import Literal

from bert_pretrain import errors, options
from tfrecord_builders.tokens import segmentation


@dataclasses.dataclass(frozen=True, kw_only=True)
class RowsConfig(options.Options):
    """How rows are filled with sentences."""

    seq_length: int = options.option(
        "Tokens of a row (S), special tokens included.", 128, at_least=8
    )
    pairing: Literal["none", "nsp", "sop"] = options.option(
        "none: full sentences of one document. nsp: pairs of segments, half "
        "of them from two documents, for next-sentence prediction. sop: pairs "
        "of consecutive segments, half of them swapped, for sentence-order "
        "prediction (ALBERT).",
        "none",
    )
    packing: bool = options.option(
        "Fill rows with text of several documents, each with its own [CLS] "
        "and [SEP]. The trainer keeps the documents apart. Needs "
        "pairing=none.",
        False,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.packing and self.pairing != "none":
            raise errors.UserError(
                f"packing needs pairing=none, not {self.pairing!r}, because "
                "packed rows have no sentence pairs; remove one of the two "
                "options."
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class MaskingConfig(options.Options):
    """Which tokens are predicted, and how they are hidden."""

    masking: Literal["token", "whole_word", "span", "ngram", "none"] = (
        options.option(
            "Units that are masked together: single tokens, all tokens of a "
            "word, spans of 1 to 10 words (SpanBERT), or 1 to 3 words "
            "(ALBERT). none: training rows are not masked, and the trainer "
            "masks them anew at each step; held-out rows are masked by token.",
            "token",
        )
    )
    segmenter: Literal["none", "jieba"] = options.option(
        "Finds words in Chinese text, which has no spaces between words, if "
        "masking is by words. none: each ideograph is a word.",
        "none",
    )
    masked_fraction: float = options.option(
        "Share of the tokens of a row that are predicted.",
        0.15,
        above=0,
        at_most=1,
        usual="BERT has 0.15",
    )
    mask_token_fraction: float = options.option(
        "Share of the predicted tokens that [MASK] replaces.",
        0.8,
        at_least=0,
        at_most=1,
    )
    random_token_fraction: float = options.option(
        "Share of the predicted tokens that a random token replaces. The rest "
        "is not replaced.",
        0.1,
        at_least=0,
        at_most=1,
    )
    max_predictions_per_seq: int = options.option(
        "Maximum number of predictions in a row. 0: masked_fraction of "
        "seq_length, rounded up.",
        20,
        at_least=0,
        usual="20 is usual for 128 tokens",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.segmenter != "none":
            if self.masking in ("token", "none"):
                raise errors.UserError(
                    f"segmenter={self.segmenter!r} finds words, but "
                    f"masking={self.masking!r} does not use words; give "
                    "masking=whole_word, span or ngram, or remove segmenter."
                )
            segmentation.check(self.segmenter)
        if self.mask_token_fraction + self.random_token_fraction > 1 + 1e-9:
            raise errors.UserError(
                f"mask_token_fraction={self.mask_token_fraction} and "
                f"random_token_fraction={self.random_token_fraction} are "
                "more than 1 together; BERT has 0.8 and 0.1."
            )

    @property
    def held_out(self) -> "MaskingConfig":
        """The masking of held-out rows, whose masks never change."""
        if self.masking == "none":
            return dataclasses.replace(self, masking="token")
        return self
