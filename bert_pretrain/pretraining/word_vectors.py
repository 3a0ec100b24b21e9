"""Word vectors from counts, for embeddings that do not begin at random.

Tokens that occur near the same tokens get similar vectors (Levy, Goldberg and
Dagan 2015): the pairs of tokens within a window are counted, near ones more;
the positive pointwise mutual information of a pair is computed, with
frequencies of contexts to the power of 0.75; and a truncated singular value
decomposition compresses this matrix to vectors. A pass over the text in a
minute gives what masked words teach embeddings in many passes. The text is the
training split's own.

V = vocabulary, C = tokens that count as contexts, B = rows, S = seq_length,
H = hidden size.
"""

from collections.abc import Iterator

import numpy as np
import tensorflow as tf
import tqdm
import transformers
from sklearn.utils import extmath

from bert_pretrain import errors, numba_jit
from bert_pretrain.data import manifests, records, vocabulary

_WINDOW = 5  # tokens on each side
_CONTEXT_POWER = 0.75
_EIGENVALUE_POWER = 0.5
# The most frequent tokens suffice as contexts, and bound the memory.
_MAX_CONTEXTS = 4096
_ROWS_AT_ONCE = 4096
# More text does not change the vectors much.
_MAX_ROWS = 2**21
# Of the vectors' components. Positions begin with a deviation of 0.02, so a
# token's state is mostly its own at first.
_SCALE = 0.06


def initialize(
    bert: transformers.TFPreTrainedModel,
    data_dir: str,
    manifest: manifests.Manifest,
    seed: int,
) -> None:
    """Sets the embeddings of tokens that occur, and the bias of all tokens.

    The bias is the logarithm of a token's frequency, so that the first loss is
    the entropy of the frequencies.

    Raises:
      UserError: if the training split has too little text.
    """
    words = manifests.read_vocabulary(data_dir, manifest)
    frequencies_V, contexts_C, counts_VC = count(data_dir, manifest, words)
    table = bert.bert.embeddings.weight
    width = table.shape[1]
    occurs_V = counts_VC.any(axis=1)
    if occurs_V.sum() <= width or len(contexts_C) <= width:
        raise errors.UserError(
            f"{data_dir}: {int(occurs_V.sum()):,} tokens occur near others, "
            f"too few for vectors of {width}; use "
            "--initial_embeddings=random or more text."
        )
    vectors_VH = factorize(counts_VC, width, seed)[occurs_V]
    vectors_VH -= vectors_VH.mean(axis=0)
    vectors_VH *= _SCALE / np.sqrt(np.mean(vectors_VH**2))
    first_VH = table.numpy()
    first_VH[: words.size][occurs_V] = vectors_VH
    table.assign(first_VH)
    bias = bert.mlm.predictions.bias
    first_V = bias.numpy()
    shares_V = (frequencies_V + 1) / (frequencies_V + 1).sum()
    # Relative to the mean token, so that the values are small.
    first_V[: words.size] = np.log(shares_V * words.size)
    bias.assign(first_V)


def count(
    data_dir: str, manifest: manifests.Manifest, words: vocabulary.Vocabulary
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Counts tokens, and the pairs of tokens that are near each other.

    Returns:
      int64 [V], how often each token occurs; int [C], the tokens that count as
      contexts; float32 [V, C], how often a token is near a context.
    """
    is_special_V = np.asarray(words.is_special)
    frequencies_V = np.zeros(words.size, np.int64)
    for ids_BS in _read(data_dir, manifest, "words"):
        frequencies_V += np.bincount(ids_BS.ravel(), minlength=words.size)
    frequencies_V[is_special_V] = 0
    order = np.argsort(-frequencies_V, kind="stable")
    contexts_C = order[: min(_MAX_CONTEXTS, np.count_nonzero(frequencies_V))]
    columns_V = np.full(words.size, -1)
    columns_V[contexts_C] = np.arange(len(contexts_C))
    counts_VC = np.zeros((words.size, len(contexts_C)), np.float32)
    boundaries_V = np.zeros(words.size, bool)
    for token in (vocabulary.PAD, vocabulary.CLS, vocabulary.SEP):
        boundaries_V[words.id(token)] = True
    for ids_BS in _read(data_dir, manifest, "pairs"):
        _count_pairs(
            ids_BS, is_special_V, boundaries_V, columns_V, _WINDOW, counts_VC
        )
    return frequencies_V, contexts_C, counts_VC


def factorize(counts_VC: np.ndarray, width: int, seed: int) -> np.ndarray:
    """Vectors whose products approach the pointwise mutual information.

    Args:
      counts_VC: is overwritten.

    Returns:
      float32 [V, width]; zero for tokens that are near no context.
    """
    rows_V1 = counts_VC.sum(axis=1, keepdims=True)
    smooth_C = counts_VC.sum(axis=0) ** _CONTEXT_POWER
    smooth_C /= smooth_C.sum()
    information_VC = counts_VC
    information_VC /= np.maximum(rows_V1 * smooth_C, np.finfo(np.float32).tiny)
    # log(1) = 0: pairs that are rarer than by chance do not count.
    np.log(np.maximum(information_VC, 1, out=information_VC), out=counts_VC)
    left_VH, values_H, _ = extmath.randomized_svd(
        information_VC, width, random_state=seed
    )
    return (left_VH * values_H**_EIGENVALUE_POWER).astype(np.float32)


def _read(
    data_dir: str, manifest: manifests.Manifest, description: str
) -> Iterator[np.ndarray]:
    """Yields the tokens of training rows, int32 [B, S]."""
    split = manifest.splits[records.TRAIN]
    paths = [f"{data_dir}/{shard.file}" for shard in split.shards]
    batches = records.without_autotuning(
        tf.data.TFRecordDataset(paths).take(_MAX_ROWS).batch(_ROWS_AT_ONCE)
    )
    with tqdm.tqdm(
        total=min(_MAX_ROWS, split.num_examples),
        desc=f"counting {description}",
        unit=" rows",
        disable=None,
    ) as bar:
        for serialized_B in batches:
            ids_BS = records.parse(
                serialized_B,
                manifest.seq_length,
                manifest.max_predictions_per_seq,
            )["input_ids"].numpy()
            bar.update(len(ids_BS))
            yield ids_BS


@numba_jit.compiled
def _count_pairs(
    ids_BS, is_special_V, boundaries_V, columns_V, window, counts_VC
):
    num_rows, seq_length = ids_BS.shape
    for row in range(num_rows):
        for place in range(seq_length):
            token = ids_BS[row, place]
            if is_special_V[token]:
                continue
            for distance in range(1, window + 1):
                if place + distance >= seq_length:
                    break
                other = ids_BS[row, place + distance]
                if boundaries_V[other]:
                    break
                if is_special_V[other]:
                    continue
                weight = (window + 1 - distance) / window
                if columns_V[other] >= 0:
                    counts_VC[token, columns_V[other]] += weight
                if columns_V[token] >= 0:
                    counts_VC[other, columns_V[token]] += weight
