import itertools
import random

import numpy as np
import pytest
from seqeval.metrics import sequence_labeling

from bert_pretrain import errors, files
from bert_pretrain.tasks import conll, examples

TAGGED = """\
-DOCSTART- -X- -X- O

U.N. NNP I-NP I-ORG
official NN I-NP O
Rolf NNP I-NP I-PER
Ekeus NNP I-NP I-PER

Peter NNP I-NP B-PER
"""


@pytest.fixture
def read(tmp_path):
    """Writes a file and reads its sentences."""

    def write_and_read(content, **options):
        path = f"{tmp_path}/x.conll"
        files.write_text(path, content)
        return conll.read(path, **options)

    return write_and_read


def test_the_files_of_conll_2003_are_read(read):
    found = read(TAGGED)
    assert found.words == [["U.N.", "official", "Rolf", "Ekeus"], ["Peter"]]
    assert found.tags == [["I-ORG", "O", "I-PER", "I-PER"], ["B-PER"]]
    assert found.lines == [3, 8]
    assert found.name_of(0, 2).endswith("x.conll:5")
    assert read(TAGGED.replace("\n", "\r\n")) == found
    assert read(TAGGED, tag_column=2).tags == [["I-NP"] * 4, ["I-NP"]]


def test_comments_are_left_out_but_not_the_word_that_begins_them(read):
    content = "# sent_id = 1\n# newdoc\n1\t#\tO\n2\t#x\tB-TAG\n"
    assert read(content, word_column=1).words == [["#", "#x"]]
    assert read("# O\n#ff B-X\n").words == [["#", "#ff"]]


@pytest.mark.parametrize("seed", range(5))
def test_sentences_come_back_with_every_character(read, seed):
    rng = random.Random(seed)
    letters = "a中\"',\u00a0\u2028\x85é#-O"

    def word():
        return "".join(rng.choices(letters, k=rng.randint(1, 4)))

    words = [[word() for _ in range(rng.randint(1, 6))] for _ in range(30)]
    tags = [[rng.choice(["O", "B-é", "I-é"]) for _ in each] for each in words]
    for separator in " \t":
        content = "\n\n".join(
            "\n".join(f"{w}{separator}{t}" for w, t in zip(*pair, strict=True))
            for pair in zip(words, tags, strict=True)
        )
        found = read(content)
        assert (found.words, found.tags) == (words, tags)


def test_words_without_tags_are_read_for_prediction(read):
    found = read("Hello\nworld\n\n\nBye", needs_tags=False)
    assert found.words == [["Hello", "world"], ["Bye"]]
    assert found.tags is None
    assert found.lines == [1, 5]


BAD_CONTENTS = [
    ("\n\n", "x.conll: no sentences"),
    ("a O\nb x O\n", "x.conll:2: 3 columns, but 2 before"),
    ("a\nb\n", "x.conll:1: 1 columns, which is too few"),
    ("a O\n\tO\n", "x.conll:2: the word is empty"),
    ("a O\nb PER\n", "x.conll:2: the tag 'PER' does not say where a span"),
    ("a O\nb B_PER\n", "x.conll:2: the tag 'B_PER' does not say"),
    ("a B-X\nb L-X\nc E-X\n", "x.conll:3: the tag 'E-X' does not go with"),
]


@pytest.mark.parametrize("content, said", BAD_CONTENTS)
def test_a_bad_file_is_refused_in_one_line_with_the_place(read, content, said):
    with pytest.raises(errors.UserError, match=said) as caught:
        read(content)
    assert "\n" not in str(caught.value)


def test_a_column_that_is_not_there_is_refused(read):
    with pytest.raises(
        errors.UserError, match="x.conll:1: 2 columns, which is"
    ):
        read("a O\n", tag_column=3)


SPANS = {
    "IOB1": (
        "I-PER I-PER B-PER O I-LOC I-PER",
        [(0, 2), (2, 3), (4, 5), (5, 6)],
    ),
    "IOB2": (
        "B-PER I-PER B-PER O B-LOC B-PER",
        [(0, 2), (2, 3), (4, 5), (5, 6)],
    ),
    "BIOES": (
        "B-PER E-PER S-PER O S-LOC S-PER",
        [(0, 2), (2, 3), (4, 5), (5, 6)],
    ),
    "BILOU": (
        "B-PER L-PER U-PER O U-LOC U-PER",
        [(0, 2), (2, 3), (4, 5), (5, 6)],
    ),
}


@pytest.mark.parametrize("scheme", SPANS)
def test_every_scheme_says_the_same_spans(scheme):
    tags, expected = SPANS[scheme]
    kinds = ["PER", "PER", "LOC", "PER"]
    assert conll.spans(tags.split()) == [
        (start, end, kind)
        for (start, end), kind in zip(expected, kinds, strict=True)
    ]


def test_any_tags_are_decoded_as_conlleval_does():
    tags = ["O", *map("-".join, itertools.product("BIES", ("X", "Y")))]
    for length in range(5):
        for sentence in itertools.product(tags, repeat=length):
            expected = sequence_labeling.get_entities(list(sentence))
            assert conll.spans(sentence) == [
                (start, last + 1, kind) for kind, start, last in expected
            ]


def test_words_are_segmented_by_tags_without_a_kind():
    assert conll.spans("B E S B M E".split()) == [
        (0, 2, ""),
        (2, 3, ""),
        (3, 6, ""),
    ]


def sentences(path, *tags):
    tags = [each.split() for each in tags]
    return examples.TaggedSentences(
        path=path,
        lines=[2] * len(tags),
        words=[["word"] * len(each) for each in tags],
        tags=tags,
    )


def test_tags_are_completed_to_their_scheme():
    labels = conll.tag_set(
        sentences("train.conll", "O S-PER O", "B-GPE-X E-GPE-X")
    )
    assert labels.labels == (
        *("O", "B-GPE-X", "B-PER", "E-GPE-X", "E-PER"),
        *("I-GPE-X", "I-PER", "S-GPE-X", "S-PER"),
    )
    assert conll.tag_set(sentences("x", "I-A")).labels == ("O", "B-A", "I-A")
    assert conll.tag_set(sentences("x", "S E")).labels == tuple("OBEIS")


def test_tags_become_ids_of_each_sentence():
    labels = conll.tag_set(sentences("train.conll", "B-PER O"))
    ids = labels.tag_ids(sentences("dev.conll", "O B-PER I-PER", "O"))
    assert [each.tolist() for each in ids] == [[0, 1, 2], [0]]
    assert ids[0].dtype == np.int32


def test_a_tag_that_training_lacks_is_named_with_its_line():
    labels = conll.tag_set(sentences("train.conll", "B-PER O"))
    with pytest.raises(
        errors.UserError,
        match=r"dev.conll:3: the tag 'B-LOC' is not among those of train.conll "
        r"\(O, B-PER, I-PER\)",
    ):
        labels.tag_ids(sentences("dev.conll", "O B-LOC"))


def test_a_file_without_spans_is_nothing_to_learn():
    with pytest.raises(errors.UserError, match="train.conll: all tags are 'O'"):
        conll.tag_set(sentences("train.conll", "O O"))
