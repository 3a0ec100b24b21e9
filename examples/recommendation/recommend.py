"""Recommends items to users by the texts of the items that they had before.

    python examples/recommendation/recommend.py --pairs_dir=output/pairs
    python examples/recommendation/recommend.py --model_dir=output/books \\
        --user=u001

The text of a history is that of its latest items, the newest first. The first
command writes pairs of texts to fine-tune with: a history, and the item that
came next. The second one embeds the texts of all items. The items nearest to
the mean vector of a history's latest items, by cosine, are recommended, but
none that is in it.

The last item of each history is left out of all training. Recall at k is the
share of the users for whom this item is among the first k recommendations. The
table shows it beside that of other ways to recommend:

    as one text    the items nearest to the vector of the history's text
    read together  the items next to those of this history in other histories
    words          TF-IDF of the same texts
    popularity     the items in most histories
    random         all items alike
"""

import dataclasses
import json
import pathlib
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from bert_pretrain import command_line, errors, options

_FOLDER = pathlib.Path(__file__).parent
_RECALLS_AT = 1, 5, 10, 20
# The pairs of every fifth user are for validation.
_DEV_EVERY = 5


@dataclasses.dataclass(frozen=True, kw_only=True)
class RecommendConfig(options.Options):
    """What to recommend, and to whom."""

    pairs_dir: str = options.option(
        "Only write pairs to fine-tune with, to this folder.", ""
    )
    model_dir: str = options.option(
        "The --output_dir of `finetune --task=embedding`.", ""
    )
    items_file: str = options.option(
        "JSON lines with id, title, description.", f"{_FOLDER}/items.jsonl"
    )
    histories_file: str = options.option(
        "JSON lines with user, and items: their ids, the oldest first.",
        f"{_FOLDER}/histories.jsonl",
    )
    num_latest: int = options.option(
        "Latest items of a history that count.", 5, at_least=1
    )
    user: tuple[str, ...] = options.option(
        "A user to print recommendations for; may be repeated.", ()
    )
    num_recommendations: int = options.option(
        "Recommendations to print for a user.", 5, at_least=1
    )

    def __post_init__(self):
        super().__post_init__()
        if bool(self.pairs_dir) == bool(self.model_dir):
            raise errors.UserError(
                "give either --pairs_dir, to write pairs to fine-tune with, or "
                "--model_dir, to recommend."
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Library:
    """Items, and who had which.

    Attributes:
      titles, texts: of each item; the text begins with the title.
      histories: maps a user to the numbers of items, the oldest first.
    """

    titles: list[str]
    texts: list[str]
    histories: dict[str, list[int]]


def main(config: RecommendConfig) -> None:
    """Writes pairs, or measures recall and recommends."""
    library = read_library(config.items_file, config.histories_file)
    if config.pairs_dir:
        num_pairs = write_pairs(library, config.pairs_dir, config.num_latest)
        print(
            f"{config.pairs_dir}: {num_pairs[0]:,} pairs to train on, "
            f"{num_pairs[1]:,} to validate on"
        )
        return
    unknown = [user for user in config.user if user not in library.histories]
    if unknown:
        raise errors.UserError(
            f"--user={unknown[0]} has no history in {config.histories_file}; "
            "the first users there are "
            f"{', '.join(list(library.histories)[:3])}."
        )
    # Imported late: --help and a wrong flag do not wait for TensorFlow.
    from bert_pretrain.finetuning import prediction
    from bert_pretrain.telemetry import console

    console.quiet_libraries()
    embed = prediction.load(config.model_dir).embed
    vectors_NH = embed(library.texts)
    print(recall_table(library, embed, vectors_NH, config.num_latest))
    for user in config.user:
        history = library.histories[user]
        (cosines_N,) = cosines([history], vectors_NH, config.num_latest)
        print(f"\n{user}, after {library.titles[history[-1]]!r}:")
        nearest = [i for i in (-cosines_N).argsort() if i not in history]
        for item in nearest[: config.num_recommendations]:
            print(f"  {cosines_N[item]:.2f}  {library.titles[item]}")


def read_library(items_file: str, histories_file: str) -> Library:
    """Reads the items and the histories.

    Histories of fewer than two items are left out, with a warning: they tell
    nothing about what follows what.

    Raises:
      UserError: if a line is not as expected, names an item twice, or names an
        unknown one.
    """
    titles, texts = [], []
    numbers: dict[str, int] = {}
    for place, item in _read_objects(
        items_file, {"id": str, "title": str, "description": str}
    ):
        if item["id"] in numbers:
            raise errors.UserError(
                f"{place}: another item has the id {item['id']!r} too; ids "
                "must differ."
            )
        numbers[item["id"]] = len(numbers)
        titles.append(item["title"])
        # The pairs become a table, where tabs and line ends have a meaning.
        text = f"{item['title']}. {item['description']}"
        texts.append(" ".join(text.split()))
    histories: dict[str, list[int]] = {}
    num_short = 0
    for place, line in _read_objects(
        histories_file, {"user": str, "items": list}
    ):
        unknown = [each for each in line["items"] if each not in numbers]
        if unknown:
            raise errors.UserError(
                f"{place}: the item {unknown[0]!r} is not in {items_file}; "
                "add it there, or take it out here."
            )
        # What a user has had is not recommended, so the first time counts.
        history = [numbers[each] for each in dict.fromkeys(line["items"])]
        if len(history) < 2:
            num_short += 1
        else:
            histories[line["user"]] = history
    if not histories:
        raise errors.UserError(
            f"{histories_file}: no history has two items; give longer ones."
        )
    if num_short:
        errors.warn(
            f"{histories_file}: {num_short} of {num_short + len(histories)} "
            "histories have fewer than two items and are left out."
        )
    return Library(titles=titles, texts=texts, histories=histories)


def _read_objects(
    path: str, fields: Mapping[str, type]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields (PATH:LINE, object) of a file of JSON lines."""
    from bert_pretrain import files

    for number, line in enumerate(files.read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        place = f"{path}:{number}"
        try:
            found = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise errors.UserError(
                f"{place}: not JSON ({error}); a .jsonl file has one JSON "
                "object in each line."
            ) from error
        for name, kind in fields.items():
            if not isinstance(found, dict) or not isinstance(
                found.get(name), kind
            ):
                raise errors.UserError(
                    f"{place}: no {name!r} that is a {kind.__name__}; each "
                    f"line is an object with {', '.join(fields)}."
                )
        yield place, found


def write_pairs(
    library: Library, pairs_dir: str, num_latest: int
) -> tuple[int, int]:
    """Writes pairs of a history and what followed, without the last items.

    To half of the pairs of dev.tsv belongs a random item instead; their
    similarity is 0, that of the others 1.

    Returns:
      The number of pairs in train.tsv and in dev.tsv.
    """
    from bert_pretrain import files

    rng = random.Random(0)
    train, dev = ["history\tnext"], ["history\tnext\tsimilarity"]
    for number, history in enumerate(library.histories.values()):
        for place in range(1, len(history) - 1):
            first = history_text(library, history[:place], num_latest)
            second = library.texts[history[place]]
            if number % _DEV_EVERY:
                train.append(f"{first}\t{second}")
            else:
                dev.append(f"{first}\t{second}\t1")
                dev.append(f"{first}\t{rng.choice(library.texts)}\t0")
    for name, lines in (("train", train), ("dev", dev)):
        files.write_text(f"{pairs_dir}/{name}.tsv", "\n".join(lines) + "\n")
    return len(train) - 1, len(dev) - 1


def history_text(
    library: Library, history: Sequence[int], num_latest: int
) -> str:
    """The texts of the latest items, the newest first."""
    latest = history[: -num_latest - 1 : -1]
    return " ".join(library.texts[item] for item in latest)


def recall_table(
    library: Library,
    embed: Callable[[list[str]], Any],
    vectors_NH: Any,
    num_latest: int,
) -> str:
    """Recall of the last items by all ways to recommend.

    Args:
      embed: gives the vectors of texts.
      vectors_NH: those of the items.
    """
    import numpy as np
    from sklearn.feature_extraction import text
    from sklearn.metrics import pairwise

    past = [history[:-1] for history in library.histories.values()]
    last = [history[-1] for history in library.histories.values()]
    had_UN = _membership(past, len(library.texts))
    together_NN = np.zeros((len(library.texts),) * 2)
    for items in past:
        np.add.at(together_NN, (items[:-1], items[1:]), 1)
    words_NW = text.TfidfVectorizer().fit_transform(library.texts)
    texts = [history_text(library, each, num_latest) for each in past]
    ways = {
        "embeddings": cosines(past, vectors_NH, num_latest),
        "as one text": pairwise.cosine_similarity(embed(texts), vectors_NH),
        "read together": had_UN @ (together_NN + together_NN.T),
        "words": cosines(past, words_NW, num_latest),
        "popularity": np.tile(had_UN.sum(axis=0), (len(past), 1)),
        "random": np.zeros_like(had_UN),
    }
    lines = ["recall at k".ljust(14) + "".join(f"{k:7}" for k in _RECALLS_AT)]
    for name, scores_UN in ways.items():
        # What is in a history is never recommended.
        scores_UN = np.where(had_UN, -np.inf, scores_UN)
        recalls = (f"{recall(scores_UN, last, k):7.1%}" for k in _RECALLS_AT)
        lines.append(name.ljust(14) + "".join(recalls))
    return "\n".join(lines)


def cosines(
    histories: Sequence[Sequence[int]], vectors_NH: Any, num_latest: int
) -> Any:
    """The cosine of each history with each item: [U, N].

    Args:
      vectors_NH: of the items, of any lengths; may be sparse.
      num_latest: the items of a history whose mean vector is that of it.
    """
    from sklearn import preprocessing

    units_NH = preprocessing.normalize(vectors_NH)
    latest = [history[-num_latest:] for history in histories]
    sums_UH = _membership(latest, units_NH.shape[0]) @ units_NH
    return preprocessing.normalize(sums_UH) @ units_NH.T


def _membership(histories: Sequence[Sequence[int]], num_items: int) -> Any:
    """1 for each item that is in a history, else 0: [U, N]."""
    import numpy as np

    membership_UN = np.zeros((len(histories), num_items))
    for user, history in enumerate(histories):
        membership_UN[user, history] = 1
    return membership_UN


def recall(scores_UN: Any, last: Sequence[int], k: int) -> float:
    """The share of users whose last item is among the k of highest scores.

    Items of equal score count as if they were in random order.
    """
    import numpy as np

    last_U1 = np.take_along_axis(scores_UN, np.array(last)[:, None], axis=1)
    num_above_U = (scores_UN > last_U1).sum(axis=1)
    num_equal_U = (scores_UN == last_U1).sum(axis=1)
    return float(np.clip((k - num_above_U) / num_equal_U, 0, 1).mean())


if __name__ == "__main__":
    command_line.run(main, RecommendConfig)
