"""The stage that turns document parts into rows, sorted by shard."""

import collections
import functools

import numpy as np

from bert_pretrain import files
from bert_pretrain.data import records, vocabulary
from tfrecord_builders.engines import engine
from tfrecord_builders.rows import row_builder, rows
from tfrecord_builders.stages import build_config, duplicates, extract
from tfrecord_builders.tokens import segmentation, sentences, tokenization

# Text that is split and tokenized at once.
_CHARS_AT_ONCE = 1 << 20


def stage(work, all_parts, shards):
    units, num_bytes = [[]], 0
    for part in all_parts:  # Small parts share a unit.
        part_bytes = part.num_bytes * max(1, part.weight)
        if units[-1] and num_bytes + part_bytes > work.config.unit_bytes:
            units.append([])
            num_bytes = 0
        units[-1].append(part)
        num_bytes += part_bytes
    return engine.Stage(
        name="rows",
        item="documents",
        units=list(enumerate(units)),
        run=functools.partial(_make_rows, work, shards),
        describe=_describe_parts,
        num_bytes=sum(part.num_bytes for part in all_parts),
    )


def _describe_parts(unit):
    _, its_parts = unit
    return extract.describe_files(
        [source.path for part in its_parts for source in part.sources]
    )


def _make_rows(work, shards, unit, prefix, progress):
    """Writes the rows of some documents: an index, then shard after shard."""
    number, its_parts = unit
    not_sampled = collections.Counter()
    tokens_of = _tokenize(work, its_parts, not_sampled, progress)
    blobs = [b""] * shards.total
    counts = collections.Counter(
        {
            f"{split}_documents": len(tokens.document_ends)
            for split, tokens in tokens_of.items()
        }
    )
    for split, first, stop in shards.passes():
        rng = np.random.default_rng(
            [work.config.seed, build_config.ROWS_STREAM, number, first]
        )
        built, row_counts = row_builder.build(
            tokens_of[split], work.config.rows, int(rng.integers(2**63))
        )
        counts.update({f"{split}_{name}": n for name, n in row_counts.items()})
        # Dealt like cards, so that the shards of a set are even.
        order, stride = rng.permutation(len(built)), stop - first
        dealer = int(rng.integers(stride))
        for i in range(stride):
            mine = order[(i - dealer) % stride :: stride]
            blobs[first + i] = built.take(mine).to_bytes()
    offsets = np.cumsum([8 * (shards.total + 1), *map(len, blobs)])
    files.write_bytes(
        prefix + ".rows", offsets.astype("<i8").tobytes() + b"".join(blobs)
    )
    by_file = {path: {"not_sampled": n} for path, n in not_sampled.items()}
    return {"counts": counts, "sampling": {"counts": by_file}}


def _tokenize(work, its_parts, not_sampled, progress):
    """The tokens of the documents of each split.

    Counts in `not_sampled` by file the documents that a weight leaves out.
    """
    tokenizer = _tokenizer(work.config.vocab_file)
    segment = segmentation.load(work.config.masking.segmenter)
    buffers = {
        split: _TokenBuffer(tokenizer, segment) for split in records.SPLITS
    }
    repeated = []
    for part in its_parts:
        for path, split, copies, text in _kept_documents(work, part):
            progress.add(len(text), 1)
            if not copies:
                not_sampled[path] += 1
                continue
            buffers[split].add(text)
            if copies > 1:
                repeated.append((copies, text))
    # Behind all others, lest a row holds a text and its copy.
    for i in range(1, max((copies for copies, _ in repeated), default=1)):
        for copies, text in repeated:
            if copies > i:
                buffers[records.TRAIN].add(text)
    return {split: buffer.tokens() for split, buffer in buffers.items()}


def _kept_documents(work, part):
    """Yields (file, split, copies, text) of what is no duplicate."""
    dropped = duplicates.read_dropped(f"{work.dir}/resolve/00000.dropped", part)
    sources = part.source_numbers().tolist()
    for i, (digest, text) in enumerate(part.read()):
        if i not in dropped:
            split = build_config.split_of(digest, work.config)
            copies = build_config.num_copies(digest, split, part.weight)
            yield part.sources[sources[i]].path, split, copies, text


@functools.lru_cache(maxsize=1)
def _tokenizer(vocab_file):
    return tokenization.Tokenizer(vocabulary.read(vocab_file))


class _TokenBuffer:
    """Collects documents and turns them into tokens, many at a time."""

    def __init__(self, tokenizer, segment):
        self._tokenizer, self._segment = tokenizer, segment
        self._texts, self._num_chars = [], 0
        self._done = []

    def add(self, text):
        self._texts.append(text)
        self._num_chars += len(text)
        if self._num_chars >= _CHARS_AT_ONCE:
            self._flush()

    def _flush(self):
        split_texts = [sentences.split(text) for text in self._texts]
        all_sentences = [sentence for text in split_texts for sentence in text]
        is_continuation = None
        if self._segment:
            ids, sentence_splits, is_continuation = (
                self._tokenizer.tokenize_words(all_sentences, self._segment)
            )
        else:
            ids, sentence_splits = self._tokenizer.tokenize(all_sentences)
        num_sentences = np.cumsum([len(text) for text in split_texts])
        # Sets: a sentence, or document, of which no token is left is none.
        sentence_ends = np.unique(sentence_splits)
        document_ends = np.unique(sentence_splits[num_sentences])
        self._done.append(
            rows.Tokens(
                ids,
                sentence_ends[sentence_ends > 0],
                document_ends[document_ends > 0],
                is_continuation,
            )
        )
        self._texts, self._num_chars = [], 0

    def tokens(self):
        if self._texts:
            self._flush()
        return rows.concatenate_tokens(self._done)
