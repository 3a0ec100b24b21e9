"""More training texts: the pretrained model replaces words by words that fit.

In a copy of a text some words are masked, and each gets a token that the model
holds for likely there, drawn by its probability (after Kobayashi 2018, section
3, with the masked language model in place of the two-way one). The label stays.
What is drawn depends only on the seed.
"""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf
import tqdm
import transformers

from bert_pretrain import errors
from bert_pretrain.checkpoints import pretrained
from bert_pretrain.data import vocabulary
from bert_pretrain.finetuning import finetune_config
from bert_pretrain.interchange import tokenizer_files
from bert_pretrain.model import bert_model, encoder, weights
from bert_pretrain.tasks import examples

_ROWS = 64
_MAX_TOKENS = 128  # Longer texts are copied up to here.
# Only the tokens that are likeliest can be drawn, so that none is absurd.
_NUM_CANDIDATES = 20


def augment(
    train: examples.TextExamples,
    begin: pretrained.Pretrained,
    config: finetune_config.LearningConfig,
    seed: int,
) -> examples.TextExamples:
    """Adds copies of each text to training examples.

    Raises:
      UserError: if these are no texts with labels, or the model that training
        begins with has no head for masked words.
    """
    if not isinstance(train, examples.TextExamples) or train.labels is None:
        raise errors.UserError(
            f"--augmented_copies={config.augmented_copies}: only texts of "
            "classes and numbers can be copied."
        )
    replacer = _Replacer(begin, config.augmented_fraction)
    generator = np.random.default_rng((seed, 1))
    all_texts, all_pairs = list(train.texts), list(train.pairs or ())
    for _ in range(config.augmented_copies):
        all_texts += replacer.replace(train.texts, generator)
        if train.pairs is not None:
            all_pairs += replacer.replace(train.pairs, generator)
    times = 1 + config.augmented_copies
    return examples.TextExamples(
        path=train.path,
        lines=train.lines * times,
        texts=all_texts,
        pairs=all_pairs if train.pairs is not None else None,
        labels=train.labels * times,
    )


class _Replacer:
    """Replaces words with a masked language model."""

    def __init__(self, begin: pretrained.Pretrained, fraction: float) -> None:
        self._fraction = fraction
        self._vocabulary = vocab = begin.vocabulary
        self._tokenizer = tokenizer_files.tokenizer(vocab)
        self._max_tokens = min(_MAX_TOKENS, begin.num_trained_positions)
        # Tokens that may take the place of a word.
        self._is_word = ~(vocab.is_special | vocab.is_continuation)
        fields = begin.config.to_dict() | {"architectures": ["BertForMaskedLM"]}
        self._bert = bert_model.from_config(
            transformers.BertConfig.from_dict(fields)
        )
        missing = weights.assign(self._bert.weights, begin.arrays, begin.folder)
        if missing:
            raise errors.UserError(
                f"--augmented_copies: {begin.folder} does not hold "
                f"{', '.join(sorted(missing)[:3])}, so it cannot replace "
                "words; begin with a model that was pretrained on masked words."
            )

    def replace(
        self, texts: Sequence[str], generator: np.random.Generator
    ) -> list[str]:
        """A copy of each text with other words in some places."""
        copies: list[str] = []
        with tqdm.tqdm(
            total=len(texts), desc="copies", unit=" texts", disable=None
        ) as bar:
            for start in range(0, len(texts), _ROWS):
                part = texts[start : start + _ROWS]
                copies += self._replace_batch(part, generator)
                bar.update(len(part))
        return copies

    def _replace_batch(
        self, texts: Sequence[str], generator: np.random.Generator
    ) -> list[str]:
        encodings = self._tokenizer.encode_batch(list(texts))
        ids_BS = np.full(
            (len(texts), self._max_tokens),
            self._vocabulary.id(vocabulary.PAD),
            np.int32,
        )
        for row, encoding in enumerate(encodings):
            ids = encoding.ids[: self._max_tokens]
            ids_BS[row, : len(ids)] = ids
        masked_BS = self._choose(ids_BS, generator)
        # The same number of places in each row; those too many are not used.
        num_places = int(masked_BS.sum(axis=1).max())
        if not num_places:
            return list(texts)
        places_BQ = np.argsort(~masked_BS, axis=1, kind="stable")
        places_BQ = places_BQ[:, :num_places].astype(np.int32)
        logits_BQV = self._logits(ids_BS, masked_BS, places_BQ)
        logits_BQV[..., ~self._is_word] = -np.inf
        drawn_BQ = _draw(logits_BQV, generator)
        return [
            _substitute(
                text,
                [
                    (encoding.offsets[place], self._vocabulary.tokens[token])
                    for place, token in zip(
                        places_BQ[row], drawn_BQ[row], strict=True
                    )
                    if masked_BS[row, place]
                ],
            )
            for row, (text, encoding) in enumerate(
                zip(texts, encodings, strict=True)
            )
        ]

    def _choose(
        self, ids_BS: np.ndarray, generator: np.random.Generator
    ) -> np.ndarray:
        """bool [B, S]: the places of words of one token that are replaced."""
        continues_BS = self._vocabulary.is_continuation[ids_BS]
        is_followed_BS = np.roll(continues_BS, -1, axis=1)
        can_BS = self._is_word[ids_BS] & ~is_followed_BS
        return can_BS & (generator.random(ids_BS.shape) < self._fraction)

    def _logits(
        self, ids_BS: np.ndarray, masked_BS: np.ndarray, places_BQ: np.ndarray
    ) -> np.ndarray:
        """float32 [B, Q, V]."""
        is_text_BS = ids_BS != self._vocabulary.id(vocabulary.PAD)
        mask = self._vocabulary.id(vocabulary.MASK)
        batch = {
            "input_ids": np.where(masked_BS, mask, ids_BS),
            "attention_mask": is_text_BS.astype(np.int32),
            "token_type_ids": np.zeros_like(ids_BS),
        }
        states_BQH = encoder.encode(
            self._bert,
            {name: tf.constant(values) for name, values in batch.items()},
            tf.float32,
            positions_BQ=tf.constant(places_BQ),
        )
        logits_BQV = encoder.masked_lm_logits(self._bert, states_BQH).numpy()
        # A table of embeddings may have more rows than there are tokens.
        return logits_BQV[..., : self._vocabulary.size].copy()


def _draw(logits_BQV: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """int [B, Q]: tokens, drawn by their probabilities."""
    best_BQK = np.argpartition(-logits_BQV, _NUM_CANDIDATES, axis=-1)
    best_BQK = best_BQK[..., :_NUM_CANDIDATES]
    scores_BQK = np.take_along_axis(logits_BQV, best_BQK, axis=-1)
    # The largest sum of logit and Gumbel noise is a draw by probability.
    noise_BQK = generator.gumbel(size=scores_BQK.shape)
    chosen_BQ1 = np.argmax(scores_BQK + noise_BQK, axis=-1, keepdims=True)
    return np.take_along_axis(best_BQK, chosen_BQ1, axis=-1)[..., 0]


def _substitute(
    text: str, replacements: Sequence[tuple[tuple[int, int], str]]
) -> str:
    """The text with other words at some places (first character, one behind).

    A capital stays one.
    """
    parts, end = [], 0
    for (start, stop), word in replacements:
        is_capital = text[start : start + 1].isupper()
        parts += [text[end:start], word.capitalize() if is_capital else word]
        end = stop
    return "".join([*parts, text[end:]])
