"""Makes the reading histories of invented readers of the books in items.jsonl.

    python examples/recommendation/make_histories.py

A reader likes one to three genres, each more or less, and one theme. The next
book is often of the genre of the last one. Some books are popular with
everybody, and sometimes a reader takes a book of no liked genre. The program
that recommends knows neither genres nor themes, only titles and descriptions.
"""

import json
import pathlib

import numpy as np

_FOLDER = pathlib.Path(__file__).parent
_NUM_READERS = 240
_SEED = 3
# The weight of a book, besides its popularity: of no liked genre, of the liked
# theme, and of the genre that was read last.
_ANY_GENRE, _THEME, _SAME_GENRE = 0.04, 4.0, 3.0


def main() -> None:
    items = [
        json.loads(line)
        for line in (_FOLDER / "items.jsonl").read_text().splitlines()
    ]
    rng = np.random.default_rng(_SEED)
    # A few books have many readers, as Zipf's law says.
    popularity_N = (1 + rng.permutation(len(items))) ** -0.5
    lines = [
        json.dumps({"user": f"u{number:03}", "items": history})
        for number in range(1, _NUM_READERS + 1)
        for history in [_history(items, popularity_N, rng)]
    ]
    (_FOLDER / "histories.jsonl").write_text("\n".join(lines) + "\n")


def _history(items, popularity_N, rng):
    """The ids of a reader's books, in the order of reading."""
    genres_N = np.array([item["genre"] for item in items])
    themes = sorted({theme for item in items for theme in item["themes"]})
    liked = rng.choice(np.unique(genres_N), rng.integers(1, 4), replace=False)
    theme = rng.choice(themes)
    weights_N = popularity_N * _ANY_GENRE
    shares = rng.dirichlet(np.ones(len(liked)))
    for genre, share in zip(liked, shares, strict=True):
        weights_N += share * popularity_N * (genres_N == genre)
    weights_N[[theme in item["themes"] for item in items]] *= _THEME
    read: list[int] = []
    for _ in range(rng.integers(5, 15)):
        next_N = weights_N.copy()
        if read:
            next_N[genres_N == genres_N[read[-1]]] *= _SAME_GENRE
            next_N[read] = 0
        read.append(int(rng.choice(len(items), p=next_N / next_N.sum())))
    return [items[index]["id"] for index in read]


if __name__ == "__main__":
    main()
