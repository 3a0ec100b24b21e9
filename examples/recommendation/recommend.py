"""Recommends items to users by the texts of the items that they had before.

    python examples/recommendation/recommend.py --pairs_dir=output/pairs
    python examples/recommendation/recommend.py --model_dir=output/items \\
        --user=u001

The first command writes pairs of texts to fine-tune with: a history, and the
item that came next. The second one embeds the texts of items and histories, and
recommends the items nearest to the history, by cosine, that are not in it. The
text of a history is that of its latest items, the last one first.

The last item of each history is left out of all training. Recall at k is the
share of the users for whom this item is among the first k recommendations. The
table shows it beside that of other ways to recommend:

    read together  the items next to those of this history in other histories
    words          TF-IDF of the same texts
    popularity     the items in most histories
    random         all items alike
"""

import dataclasses
import json
import math
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
        "Latest items whose texts stand for a history.", 3, at_least=1
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

    def text_of(self, history: Sequence[int], num_latest: int) -> str:
        """The texts of the latest items of a history, the last one first."""
        latest = history[: -num_latest - 1 : -1]
        return " ".join(self.texts[item] for item in latest)


def main(config: RecommendConfig) -> None:
    """Writes pairs, or measures recall and recommends."""
    library = read_library(config.items_file, config.histories_file)
    if config.pairs_dir:
        num_pairs = write_pairs(library, config.num_latest, config.pairs_dir)
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
    from sklearn.metrics import pairwise

    from bert_pretrain.finetuning import prediction
    from bert_pretrain.telemetry import console

    console.quiet_libraries()
    predictor = prediction.load(config.model_dir)

    def cosines(histories: list[list[int]]) -> Any:
        texts = [library.text_of(each, config.num_latest) for each in histories]
        return pairwise.cosine_similarity(
            predictor.embed(texts), predictor.embed(library.texts)
        )

    print(recall_table(library, cosines))
    for user in config.user:
        history = library.histories[user]
        (cosines_N,) = without(cosines([history]), [history])
        print(f"\n{user}, after {library.titles[history[-1]]!r}:")
        num_new = len(cosines_N) - len(history)
        num_best = min(config.num_recommendations, num_new)
        for item in (-cosines_N).argsort()[:num_best]:
            print(f"  {cosines_N[item]:.2f}  {library.titles[item]}")


def read_library(items_file: str, histories_file: str) -> Library:
    """Reads the items and the histories.

    Histories of fewer than two items are left out, with a warning: they tell
    nothing about what follows what.

    Raises:
      UserError: if a line is not as expected, names an item twice, or names an
        unknown one.
    """
    titles, texts, numbers = [], [], {}
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
    histories, num_short = {}, 0
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
    library: Library, num_latest: int, pairs_dir: str
) -> tuple[int, int]:
    """Writes the pairs to fine-tune with, all before the last items.

    Half of the pairs of dev.tsv, whose similarity is 0, have a random item
    instead of the next one.

    Returns:
      The number of pairs in train.tsv and in dev.tsv.
    """
    from bert_pretrain import files

    rng = random.Random(0)
    train, dev = ["history\tnext"], ["history\tnext\tsimilarity"]
    for number, history in enumerate(library.histories.values()):
        for end in range(1, len(history) - 1):
            text = library.text_of(history[:end], num_latest)
            pair = f"{text}\t{library.texts[history[end]]}"
            if number % _DEV_EVERY:
                train.append(pair)
            else:
                dev.append(f"{pair}\t1")
                dev.append(f"{text}\t{rng.choice(library.texts)}\t0")
    for name, lines in (("train", train), ("dev", dev)):
        files.write_text(f"{pairs_dir}/{name}.tsv", "\n".join(lines) + "\n")
    return len(train) - 1, len(dev) - 1


def recall_table(
    library: Library, cosines: Callable[[list[list[int]]], Any]
) -> str:
    """Recall of the last items by all ways to recommend.

    Args:
      cosines: maps histories to their cosine with each item, [users, items].
    """
    import numpy as np
    from sklearn.feature_extraction import text
    from sklearn.metrics import pairwise

    histories = list(library.histories.values())
    past = [history[:-1] for history in histories]
    had_UN = np.zeros((len(past), len(library.texts)))
    together_NN = np.zeros((len(library.texts),) * 2)
    for user, items in enumerate(past):
        had_UN[user, items] = 1
        np.add.at(together_NN, (items[:-1], items[1:]), 1)
    together_NN += together_NN.T
    words_NW = text.TfidfVectorizer().fit_transform(library.texts)
    ways = {
        "embeddings": cosines(past),
        "read together": had_UN @ together_NN,
        "words": pairwise.cosine_similarity(had_UN @ words_NW, words_NW),
        "popularity": np.tile(had_UN.sum(axis=0), (len(past), 1)),
        "random": np.zeros_like(had_UN),
    }
    last = [history[-1] for history in histories]
    lines = ["recall at k".ljust(14) + "".join(f"{k:7}" for k in _RECALLS_AT)]
    for name, scores_UN in ways.items():
        scores_UN = without(scores_UN, past)
        recalls = (f"{recall(scores_UN, last, k):7.1%}" for k in _RECALLS_AT)
        lines.append(name.ljust(14) + "".join(recalls))
    return "\n".join(lines)


def without(scores_UN: Any, histories: Sequence[Sequence[int]]) -> Any:
    """The scores, with minus infinity for what is in a user's history."""
    scores_UN = scores_UN.copy()
    for user, history in enumerate(histories):
        scores_UN[user, history] = -math.inf
    return scores_UN


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
