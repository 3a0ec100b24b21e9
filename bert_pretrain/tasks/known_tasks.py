"""The tasks whose files can be given as they are: GLUE's and AG News.

GLUE: Wang et al. 2019, https://gluebenchmark.com. AG News: Zhang, Zhao and
LeCun 2015.
"""

import dataclasses

from bert_pretrain.tasks import tables


@dataclasses.dataclass(frozen=True, kw_only=True)
class KnownTask:
    """What is fixed about a task that everybody knows by its name.

    Attributes:
      kind: "classification" or "regression".
      layouts: columns of its files. The first is that of the original files;
        the others are of copies, such as those of HuggingFace.
      no_label: the label of examples without one, if there are such.
    """

    kind: str
    layouts: tuple[tables.Columns, ...]
    no_label: str = ""


def _classification(*layouts: tables.Columns, no_label: str = "") -> KnownTask:
    return KnownTask(kind="classification", layouts=layouts, no_label=no_label)


def _sentence(name: str) -> tables.Columns:
    return tables.Columns(text=(name,), label="label")


def _pair(first: str, second: str, label: str = "label") -> tables.Columns:
    return tables.Columns(text=(first,), text_pair=second, label=label)


_SENTENCES = _pair("sentence1", "sentence2")
KNOWN_TASKS = {
    "cola": _classification(
        # test.tsv alone has a header: "index", "sentence".
        _sentence("sentence"),
        tables.Columns(text=("3",), label="1"),
    ),
    "sst2": _classification(
        _sentence("sentence"), _sentence("content"), _sentence("text")
    ),
    "mrpc": _classification(
        _pair("#1 String", "#2 String", "Quality"), _SENTENCES
    ),
    "stsb": KnownTask(
        kind="regression",
        layouts=(_pair("sentence1", "sentence2", "score"), _SENTENCES),
    ),
    "qqp": _classification(
        _pair("question1", "question2", "is_duplicate"),
        _pair("question1", "question2"),
    ),
    # Beside gold_label, train.tsv has the label of one person, dev_matched.tsv
    # those of five. MultiNLI's own gold label is "-" if they disagree.
    "mnli": _classification(
        _pair("sentence1", "sentence2", "gold_label"),
        _SENTENCES,
        _pair("premise", "hypothesis"),
        no_label="-",
    ),
    "qnli": _classification(_pair("question", "sentence")),
    "rte": _classification(_SENTENCES),
    "wnli": _classification(_SENTENCES),
    "ag_news": _classification(
        # Kaggle's copy has a header; the original has none.
        tables.Columns(text=("Title", "Description"), label="Class Index"),
        _sentence("text"),
        tables.Columns(text=("title", "description"), label="class"),
        tables.Columns(text=("1", "2"), label="0"),
    ),
}
