import csv
import gzip
import io
import json
import random

import numpy as np
import pytest

from bert_pretrain import errors, files
from bert_pretrain.tasks import examples, known_tasks, tables

COLUMNS = tables.Columns(text=("text",), label="label")
PAIRS = tables.Columns(text=("a",), text_pair="b", label="y")
NUMBERS = tables.Columns(text=("0",), label="-1")
# What ends a line or a field somewhere, means something in a format, or is
# lost by careless code.
ODD = "\t\n\r \"',;\\{}x\u0085\u2028\x0b\x1cé中😀\u00a0#0"


@pytest.fixture
def read(tmp_path):
    """Writes a file and reads its examples."""

    def write_and_read(name, content, *layouts, **options):
        path = f"{tmp_path}/{name}"
        if isinstance(content, str):
            content = content.encode("utf-8")
        files.write_bytes(path, content)
        return tables.read(path, layouts or (COLUMNS,), **options)

    return write_and_read


def read_task(read, name, content, **options):
    task = known_tasks.KNOWN_TASKS[name]
    return read(
        "x.csv" if name == "ag_news" else "x.tsv",
        content,
        *task.layouts,
        no_label=task.no_label,
        **options,
    )


def rows_of(found):
    pairs = found.pairs or [None] * len(found)
    labels = found.labels or [None] * len(found)
    return list(zip(found.texts, pairs, labels, strict=True))


def random_rows(seed, forbidden=""):
    rng = random.Random(seed)
    letters = [letter for letter in ODD if letter not in forbidden]

    def field():
        return "".join(rng.choices(letters, k=rng.randrange(9)))

    return [("x" + field(), field(), f"l{field()}l") for _ in range(60)]


@pytest.mark.parametrize("seed", range(5))
def test_csv_gives_back_every_character(read, seed):
    rows = random_rows(seed)
    content = io.StringIO(newline="")
    csv.writer(content).writerows([("a", "b", "y"), *rows])
    assert rows_of(read("x.csv", content.getvalue(), PAIRS)) == rows


@pytest.mark.parametrize("seed", range(5))
def test_tsv_gives_back_every_character_that_a_field_may_hold(read, seed):
    rows = random_rows(seed, "\t\n\r")
    content = "".join("\t".join(row) + "\n" for row in [("a", "b", "y"), *rows])
    assert rows_of(read("x.tsv", content, PAIRS)) == rows
    assert read("x.tsv", "label\ttext\r\n1\ta\r\n").texts == ["a"]
    windows = "\ufeff" + content.replace("\n", "\r\n")
    assert rows_of(read("x.tsv", windows, PAIRS)) == rows


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("ascii_only", [False, True])
def test_json_lines_give_back_every_character(read, seed, ascii_only):
    rows = random_rows(seed)
    content = "\n".join(
        json.dumps(dict(zip("aby", row, strict=True)), ensure_ascii=ascii_only)
        for row in rows
    )
    assert rows_of(read("x.jsonl", content, PAIRS)) == rows


def test_plain_text_has_one_text_in_each_line(read):
    found = read("x.txt", 'a\tb\n\n"c\u2028d', COLUMNS, needs_labels=False)
    assert found.texts == ["a\tb", "", '"c\u2028d']
    assert found.labels is None
    with pytest.raises(errors.UserError, match=r"x.txt: a .txt file has no la"):
        read("x.txt", "a")


def test_an_empty_line_is_a_text_only_where_a_row_has_one_column(read):
    column = tables.Columns(text=("text",))
    found = read("x.tsv", "text\na\n\nb\n", column, needs_labels=False)
    assert found.texts == ["a", "", "b"]
    assert read("x.tsv", "text\tlabel\n\na\t1\n\n").texts == ["a"]


def test_a_text_may_be_long(read):
    text = "long, " * 30_000
    assert read("x.csv", f'text,label\n"{text}",1\n').texts == [text]


def test_a_column_without_a_name_is_not_taken_for_one_that_is_not_wanted(read):
    assert rows_of(read("x.csv", ",text,label\n0,a,1\n")) == [("a", None, "1")]


def test_spaces_around_labels_and_names_of_columns_do_not_count(read):
    assert rows_of(read("x.csv", "text, label\n a , 1\n")) == [
        (" a ", None, "1")
    ]


def test_a_compressed_file_is_read_like_others(read):
    content = gzip.compress(b"text,label\nfine,1\n")
    assert rows_of(read("x.csv.gz", content)) == [("fine", None, "1")]
    with pytest.raises(errors.UserError, match="x.csv.gz: the compressed data"):
        read("x.csv.gz", content[:-9])


def test_examples_know_their_lines(read):
    found = read("x.csv", 'text,label\n"two\nlines",1\n\nthird,0\n')
    assert [found.name_of(i).rpartition("/")[2] for i in (0, 1)] == [
        "x.csv:2",
        "x.csv:5",
    ]
    assert examples.take(found, [1]).name_of(0) == found.name_of(1)
    assert read("x.jsonl", '\n{"text": "a", "label": 1}').lines == [2]
    assert read("x.tsv", "a\t0\n\nb\t1", NUMBERS).lines == [1, 3]


def test_numbers_of_columns_are_for_tables_without_a_header(read):
    found = read("x.tsv", "a\t-\t1\nb\t-\t0\n", NUMBERS)
    assert rows_of(found) == [("a", None, "1"), ("b", None, "0")]
    with pytest.raises(errors.UserError, match="'text', '1' are partly number"):
        tables.Columns(text=("text",), label="1")
    with pytest.raises(errors.UserError, match="has the columns 'a', 'b', but"):
        read("x.tsv", "a\tb\n", tables.Columns(text=("0",), label="2"))
    with pytest.raises(errors.UserError, match="has the columns 'a', 'b', but"):
        read("x.jsonl", '{"a": 1, "b": 2}', NUMBERS)


def test_a_header_among_the_examples_is_suspected(read, capsys):
    read("x.tsv", "text\tlabel\na\t1\nb\t0\n", NUMBERS)
    assert (
        "x.tsv:1: the label 'label' is in no other line"
        in capsys.readouterr().err
    )


def test_json_values_that_are_numbers_become_text(read):
    content = '{"text": 5, "label": true}\n{"text": "a", "label": 0.5, "x": []}'
    found = read("x.jsonl", content)
    assert rows_of(found) == [("5", None, "true"), ("a", None, "0.5")]


def test_half_a_character_in_json_does_not_reach_the_tokenizer(read):
    found = read("x.jsonl", '{"text": "cut \\ud83d", "label": 1}')
    assert found.texts == ["cut \ufffd"]


def test_labels_are_optional_where_nobody_needs_them(read):
    assert read("x.csv", "text\na\n", needs_labels=False).labels is None
    assert read("x.csv", "text,label\na,\n", needs_labels=False).labels is None
    found = read("x.csv", "text,label\na,1\n", needs_labels=False)
    assert found.labels == ["1"]
    with pytest.raises(errors.UserError, match="no column of labels is named"):
        read("x.csv", "text\na\n", tables.Columns(text=("text",)))


BAD_FILES = {
    "x.xlsx": (
        "",
        r"x.xlsx: the name tells the format, so it must end with .t",
    ),
    "empty.csv": ("", "empty.csv: the file is empty"),
    "header.csv": ("text,label\n", "header.csv: no examples"),
    "none.jsonl": ("\n", "none.jsonl: the file is empty"),
    "a.csv": (
        "sentence,label\nx,1\n",
        "columns 'sentence', 'label', but needs",
    ),
    "b.tsv": (
        "text,label\nx,1\n",
        "b.tsv: has the columns 'text,label', but",
    ),
    "c.csv": (
        "text,label,text\nx,1,x\n",
        "c.csv: two columns are called 'text'",
    ),
    "d.csv": ('text,label\nx,1\n"y"y,1\n', "d.csv:3: a quote that opens in"),
    "e.csv": ('text,label\nx,1\n"y,1\nz,1\n', "e.csv:3: a quote that opens in"),
    "f.csv": (
        "text,label\nx, y,1\nx, y,1\n",
        "f.csv:2: 3 instead of 2 columns",
    ),
    "g.csv": (
        "text,label\nx,1\ny, \nz,\n",
        "g.csv:3: the label is empty, as in 2",
    ),
    "h.tsv": (
        b"text\tlabel\nx\t1\ncaf\xe9\t0\n",
        "h.tsv: not UTF-8 .* in line 3",
    ),
    "i.tsv": ("text\tlabel\nx\0\t1\n", "i.tsv:2: a NUL character"),
    "j.tsv": ("text\tlabel\n".encode("utf-16"), "j.tsv: not UTF-8 at byte 0"),
    "k.jsonl": ('{"text": "a", "label": 1}\n{"te', r"k.jsonl:2: not JSON \("),
    "l.jsonl": ('["a", 1]', "l.jsonl:1: not a JSON object but"),
    "m.jsonl": (
        '{"text": ["a"], "label": 1}',
        "m.jsonl:1: 'text' is neither te",
    ),
    "n.jsonl": (
        '{"text": "a", "label": 1}\n{"text": "b"}',
        "n.jsonl:2: the labe",
    ),
    "o.jsonl": ("[" * 9999, r"o.jsonl:1: not JSON \("),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_file_is_refused_in_one_line_with_the_place(read, name):
    content, said = BAD_FILES[name]
    with pytest.raises(errors.UserError, match=said) as caught:
        read(name, content)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(errors.UserError, match=r"none.csv: no such file"):
        tables.read(f"{tmp_path}/none.csv", [COLUMNS])


def test_a_few_malformed_rows_are_left_out_and_counted(read, capsys):
    good = "fine\t1\n" * 198
    found = read("x.tsv", f"text\tlabel\n{good}cut\nx\ty\t1\n")
    assert len(found) == 198
    said = "x.tsv:200: 1 instead of 2 columns, as in 2 of 200 rows, which are l"
    assert said in capsys.readouterr().err
    assert len(read("x.tsv", "text\tlabel\ncut\nfine\t1\n")) == 1
    with pytest.raises(
        errors.UserError, match="as in 3 of 201 rows; in a .tsv"
    ):
        read("x.tsv", f"text\tlabel\n{good}cut\nx\ty\t1\ncut\n")


def test_empty_texts_stay_for_prediction_and_not_for_training(read, capsys):
    content = "a,b,y\nx,y,1\n , y,0\nx,,1\n"
    assert len(read("x.csv", content, PAIRS)) == 3
    assert (
        "x.csv:3: the text is empty, as in 2 of 3 rows.\n"
        in capsys.readouterr().err
    )
    assert read("x.csv", content, PAIRS, drops_empty=True).lines == [2]
    assert "as in 2 of 3 rows, which are left out" in capsys.readouterr().err
    with pytest.raises(errors.UserError, match="x.csv: no examples"):
        read("x.csv", "text,label\n,1\n", drops_empty=True)


MNLI = "index\tpromptID\tpairID\tgenre\tp1\tp2\tq1\tq2\tsentence1\tsentence2"
STSB = (
    "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsen"
)
GLUE_FILES = {
    "cola-train": ("cola", "gj04\t0\t*\tThem ran.\n", ("Them ran.", None, "0")),
    "cola-test": (
        "cola",
        "index\tsentence\n0\tHe ran.\n",
        ("He ran.", None, None),
    ),
    "sst2-train": ("sst2", 'sentence\tlabel\n"good\t1\n', ('"good', None, "1")),
    "sst2-dev": ("sst2", "label\tcontent\n0\tbad\n", ("bad", None, "0")),
    "sst2-test": ("sst2", "index\tsentence\n0\tbad\n", ("bad", None, None)),
    "mrpc-train": (
        "mrpc",
        "\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\n1\t7\t8\ta\tb\n",
        ("a", "b", "1"),
    ),
    "mrpc-test": (
        "mrpc",
        "index\t#1 ID\t#2 ID\t#1 String\t#2 String\n0\t7\t8\ta\tb\n",
        ("a", "b", None),
    ),
    "stsb-train": (
        "stsb",
        f"{STSB}tence2\tscore\n0\tg\tf\t2012\t1\tn\tn\ta\tb\t4.75\n",
        ("a", "b", "4.75"),
    ),
    "stsb-test": (
        "stsb",
        f"{STSB}tence2\n0\tg\tf\t2012\t1\tn\tn\ta\tb\n",
        ("a", "b", None),
    ),
    "qqp-train": (
        "qqp",
        "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n1\t2\t3\ta\tb\t0\n",
        ("a", "b", "0"),
    ),
    "qqp-test": (
        "qqp",
        "id\tquestion1\tquestion2\n0\ta\tb\n",
        ("a", "b", None),
    ),
    "mnli-train": (
        "mnli",
        f"{MNLI}\tlabel1\tgold_label\n"
        + "0\t" * 8
        + "a\tb\tentailment\tneutral\n",
        ("a", "b", "neutral"),
    ),
    "mnli-dev": (
        "mnli",
        f"{MNLI}\tlabel1\tlabel2\tlabel3\tlabel4\tlabel5\tgold_label\n"
        + "0\t" * 8
        + "a\tb\tneutral\tx\tx\tx\tx\tcontradiction\n",
        ("a", "b", "contradiction"),
    ),
    "mnli-test": ("mnli", f"{MNLI}\n" + "0\t" * 8 + "a\tb\n", ("a", "b", None)),
    "mnli-copy": (
        "mnli",
        "premise\thypothesis\tlabel\tidx\na\tb\t1\t0\n",
        ("a", "b", "1"),
    ),
    "qnli-train": (
        "qnli",
        "index\tquestion\tsentence\tlabel\n0\ta\tb\tnot_entailment\n",
        ("a", "b", "not_entailment"),
    ),
    "rte-train": (
        "rte",
        "index\tsentence1\tsentence2\tlabel\n0\ta\tb\tentailment\n",
        ("a", "b", "entailment"),
    ),
    "wnli-test": (
        "wnli",
        "index\tsentence1\tsentence2\n0\ta\tb\n",
        ("a", "b", None),
    ),
    "ag-kaggle": (
        "ag_news",
        'Class Index,Title,Description\n3,"Up, down",Oil rose.\n',
        ("Up, down Oil rose.", None, "3"),
    ),
    "ag-original": (
        "ag_news",
        '"3","Up","Oil ""rose""."\n',
        ('Up Oil "rose".', None, "3"),
    ),
}


@pytest.mark.parametrize("case", GLUE_FILES)
def test_files_of_known_tasks_are_read_as_they_are(read, case):
    name, content, expected = GLUE_FILES[case]
    needs_labels = expected[2] is not None
    found = read_task(read, name, content, needs_labels=needs_labels)
    assert rows_of(found) == [expected]


def test_pairs_without_a_gold_label_are_left_out_and_counted(read, capsys):
    content = "sentence1\tsentence2\tgold_label\na\tb\tneutral\nc\td\t-\n"
    assert read_task(read, "mnli", content).texts == ["a"]
    assert (
        "x.tsv:3: the label '-' stands for none; 1 of 2 rows"
        in capsys.readouterr().err
    )


def labelled(path, *labels):
    return examples.TextExamples(
        path=path,
        lines=list(range(2, len(labels) + 2)),
        texts=["text"] * len(labels),
        labels=list(labels),
    )


def test_labels_are_sorted_and_numbers_by_value():
    train = labelled("train.tsv", "10", "9", "-1.5", "9", "x", "2e0")
    labels = examples.LabelSet.of(train)
    assert labels.labels == ("-1.5", "2e0", "9", "10", "x")
    assert labels.text_ids(train).tolist() == [3, 2, 0, 2, 4, 1]


def test_a_label_that_training_lacks_is_named_with_those_it_has():
    labels = examples.LabelSet.of(labelled("train.tsv", "pos", "neg"))
    with pytest.raises(
        errors.UserError,
        match=r"dev.tsv:3: the label 'neutral' is not among those of train.tsv "
        r"\(neg, pos\), and 1 more are wrong; correct",
    ):
        labels.text_ids(labelled("dev.tsv", "pos", "neutral", "Neg"))


def test_one_label_is_nothing_to_learn():
    with pytest.raises(errors.UserError, match=r"2 examples have 1 different"):
        examples.LabelSet.of(labelled("train.tsv", "pos", "pos"))


def test_labels_of_a_regression_are_finite_numbers():
    values = examples.as_floats(labelled("x.tsv", "1", "-2.5e1"))
    np.testing.assert_array_equal(values, np.float32([1, -25]))
    for wrong in ("good", "nan", "inf", ""):
        with pytest.raises(
            errors.UserError, match=r"x.tsv:3: the label '.*no n"
        ):
            examples.as_floats(labelled("x.tsv", "1", wrong))
