"""The stage that turns document parts into rows, sorted by shard."""

import collections
import functools
import itertools
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from bert_pretrain import files
from bert_pretrain.data import records, vocabulary
from tfrecord_builders.engines import work_units
from tfrecord_builders.rows import row_builder, rows
from tfrecord_builders.stages import (
    build_config,
    document_parts,
    duplicates,
    extract,
    sampling,
    shard_plan,
)
from tfrecord_builders.tokens import (
    language_counts,
    segmentation,
    sentences,
    tokenization,
)

# Text that is split and tokenized at once.
_CHARS_AT_ONCE = 1 << 20

# The number of a unit and its parts.
_Unit = tuple[int, list[document_parts.DocumentPart]]


def stage(
    work: build_config.Work,
    parts: Sequence[document_parts.DocumentPart],
    plan: shard_plan.ShardPlan,
) -> work_units.Stage[_Unit]:
    """The stage; a unit is one document part, or several small ones.

    The summary of a unit has `counts` by split, those of `languages`, and in
    `sampling` the `counts` of documents by file that a weight leaves out.
    """
    units: list[list[document_parts.DocumentPart]] = [[]]
    num_bytes = 0.0
    for part in parts:
        part_bytes = part.num_bytes * max(1, part.weight)
        if units[-1] and num_bytes + part_bytes > work.config.unit_bytes:
            units.append([])
            num_bytes = 0
        units[-1].append(part)
        num_bytes += part_bytes
    return work_units.Stage(
        name="rows",
        item="documents",
        units=list(enumerate(units)),
        run=functools.partial(_make_rows, work, plan),
        describe=_describe_parts,
        num_bytes=sum(part.num_bytes for part in parts),
    )


def _describe_parts(unit: _Unit) -> str:
    _, parts = unit
    return extract.describe_files(
        source.path for part in parts for source in part.sources
    )


def _make_rows(
    work: build_config.Work,
    plan: shard_plan.ShardPlan,
    unit: _Unit,
    prefix: str,
    progress: work_units.UnitProgress,
) -> work_units.Summary:
    """Writes the rows of some documents: an index, then each shard's rows."""
    number, parts = unit
    not_sampled: collections.Counter[str] = collections.Counter()
    tokens_of, languages = _tokenize(work, parts, not_sampled, progress)
    blobs = [b""] * plan.total
    counts = collections.Counter(
        {
            f"{split}_documents": len(tokens.document_ends)
            for split, tokens in tokens_of.items()
        }
    )
    for split, first, past in plan.passes():
        rng = np.random.default_rng(
            [work.config.seed, sampling.ROWS_STREAM, number, first]
        )
        built, row_counts = row_builder.build(
            tokens_of[split], work.config.rows, int(rng.integers(2**63))
        )
        counts.update({f"{split}_{name}": n for name, n in row_counts.items()})
        # Shuffled, and dealt one by one, so that all shards of a pass get
        # about the same number of rows. The shard that gets the first row is
        # random, so that no shard gets more than others from every unit.
        order, num_shards = rng.permutation(len(built)), past - first
        first_dealt = int(rng.integers(num_shards))
        for i in range(num_shards):
            dealt = order[(i - first_dealt) % num_shards :: num_shards]
            blobs[first + i] = built.take(dealt).to_bytes()
    offsets = np.cumsum([8 * (plan.total + 1), *map(len, blobs)])
    files.write_bytes(
        prefix + ".rows", offsets.astype("<i8").tobytes() + b"".join(blobs)
    )
    by_file = {path: {"not_sampled": n} for path, n in not_sampled.items()}
    return {
        "counts": counts,
        "languages": languages,
        "sampling": {"counts": by_file},
    }


def _tokenize(
    work: build_config.Work,
    parts: Sequence[document_parts.DocumentPart],
    not_sampled: collections.Counter[str],
    progress: work_units.UnitProgress,
) -> tuple[dict[str, rows.Tokens], language_counts.LanguageCounts]:
    """Returns the tokens of each split's documents, and counts by language.

    Args:
      not_sampled: counts by file the documents that a weight leaves out.
    """
    tokenizer = _tokenizer(work.config.vocab_file)
    split_words = segmentation.load(work.config.masking.segmenter)
    buffers = {
        split: _TokenBuffer(tokenizer, split_words) for split in records.SPLITS
    }
    repeated = []
    for part in parts:
        for path, split, copies, text, language in _kept_documents(work, part):
            progress.add(len(text), 1)
            if not copies:
                not_sampled[path] += 1
                continue
            buffers[split].add(text, language)
            if copies > 1:
                repeated.append((copies, text, language))
    # Copies come after all first occurrences, so that no row holds a text and
    # its copy.
    for i in range(1, max((copies for copies, *_ in repeated), default=1)):
        for copies, text, language in repeated:
            if copies > i:
                buffers[records.TRAIN].add(text, language)
    tokens_of = {split: buffer.tokens() for split, buffer in buffers.items()}
    counts = [buffer.counts for buffer in buffers.values()]
    return tokens_of, language_counts.add(itertools.chain(*counts))


def _kept_documents(
    work: build_config.Work, part: document_parts.DocumentPart
) -> Iterator[tuple[str, str, int, str, str]]:
    """Yields (file, split, copies, text, language) of documents to keep."""
    dropped = duplicates.read_dropped(f"{work.dir}/resolve/00000.dropped", part)
    sources = part.source_numbers().tolist()
    for i, (digest, text, language) in enumerate(part.read()):
        if i not in dropped:
            split = sampling.split_of(digest, work.config)
            copies = sampling.num_copies(digest, split, part.weight)
            path = part.sources[sources[i]].path
            yield path, split, copies, text, language


@functools.lru_cache(maxsize=1)
def _tokenizer(vocab_file: str) -> tokenization.Tokenizer:
    return tokenization.Tokenizer(vocabulary.read(vocab_file))


class _TokenBuffer:
    """Collects documents and turns them into tokens, many at a time.

    Attributes:
      counts: of the text in each language, in the order of the documents.
    """

    def __init__(
        self,
        tokenizer: tokenization.Tokenizer,
        split_words: Callable[[str], list[str]] | None,
    ) -> None:
        self._tokenizer, self._split_words = tokenizer, split_words
        self._texts: list[tuple[str, str]] = []  # with their languages
        self._num_chars = 0
        self._done: list[rows.Tokens] = []
        self.counts: list[language_counts.LanguageCounts] = []

    def add(self, text: str, language: str) -> None:
        self._texts.append((text, language))
        self._num_chars += len(text)
        if self._num_chars >= _CHARS_AT_ONCE:
            self._flush()

    def tokens(self) -> rows.Tokens:
        """The tokens of all documents."""
        if self._texts:
            self._flush()
        return rows.concatenate_tokens(self._done)

    def _flush(self) -> None:
        split_texts = [
            sentences.split(text, language) for text, language in self._texts
        ]
        all_sentences = [sentence for text in split_texts for sentence in text]
        is_continuation = None
        if self._split_words:
            ids, sentence_splits, is_continuation = (
                self._tokenizer.tokenize_words(all_sentences, self._split_words)
            )
        else:
            ids, sentence_splits = self._tokenizer.tokenize(all_sentences)
        self.counts.append(
            language_counts.count_text(
                self._texts,
                split_texts,
                ids,
                sentence_splits,
                self._tokenizer.vocab,
            )
        )
        num_sentences = np.cumsum([len(text) for text in split_texts])
        # Unique and not 0: a sentence or document without tokens is left out.
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
