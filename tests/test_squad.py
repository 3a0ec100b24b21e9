import json
import random

import numpy as np
import pytest
from transformers.data.metrics import squad_metrics

from bert_pretrain import errors, files
from bert_pretrain.tasks import examples, question_task, squad, task_config
from helpers import tasks

CONTEXT = "The Rhine is long. The Rhine flows north, to the sea."


def question(name, *answers, **fields):
    return {
        "id": name,
        "question": f"{name}?",
        "answers": [
            {"text": text, "answer_start": start} for start, text in answers
        ],
        **fields,
    }


def squad_file(*questions, context=CONTEXT):
    return {"data": [{"paragraphs": [{"context": context, "qas": questions}]}]}


@pytest.fixture
def read(tmp_path):
    """Writes a file and reads its questions."""

    def write_and_read(content, **options):
        path = f"{tmp_path}/x.json"
        files.write_text(path, json.dumps(content))
        return squad.read(path, **options)

    return write_and_read


def answers_of(found):
    return [[(a.start, a.text) for a in each] for each in found.answers]


def test_all_answers_of_both_versions_are_read(read, capsys):
    found = read(
        squad_file(
            question("a", (4, "Rhine"), (0, "The Rhine")),
            {"id": "b", "question": "b?", "is_impossible": True},
            question("c", (13, "long"), is_impossible=False),
        )
    )
    assert found.ids == ["a", "b", "c"]
    assert found.questions == ["a?", "b?", "c?"]
    assert found.contexts == [CONTEXT] * 3
    assert answers_of(found) == [
        [(4, "Rhine"), (0, "The Rhine")],
        [],
        [(13, "long")],
    ]
    assert capsys.readouterr().err == ""


def test_characters_are_counted_as_in_the_file(read):
    context = "é 😀 中 Ｘ"
    found = read(squad_file(question("a", (4, "中")), context=context))
    assert answers_of(found) == [[(4, "中")]]


@pytest.mark.parametrize(
    "said, nearest", [(0, 4), (5, 4), (22, 23), (-1, 4), (999, 23)]
)
def test_a_wrong_start_is_mended_by_the_nearest_place(
    read, capsys, said, nearest
):
    found = read(
        squad_file(question("a", (13, "long")), question("b", (said, "Rhine")))
    )
    assert answers_of(found)[1] == [(nearest, "Rhine")]
    warned = capsys.readouterr().err
    assert "x.json: 1 of 2 answers are not where answer_start says" in warned
    assert "of question 'b'" in warned


def test_answers_that_the_context_lacks_are_left_out_and_counted(read, capsys):
    found = read(
        squad_file(
            question("a", (0, "Danube"), (13, "long")),
            question("b", (0, "Danube")),
            question("c", (0, "")),
            question("d", (0, " ")),
        )
    )
    assert answers_of(found) == [[(13, "long")]]
    warned = capsys.readouterr().err
    assert (
        "4 of 5 answers are not where answer_start says; they are left"
        in warned
    )
    assert "of question 'a'" in warned


def test_questions_without_answers_are_read_for_prediction(read):
    content = squad_file({"id": 7, "question": "Where?"})
    found = read(content, needs_answers=False)
    assert (found.ids, found.answers) == (["7"], [[]])
    with pytest.raises(errors.UserError, match=r"qas\[0\] no 'answers'; write"):
        read(content)


BAD_CONTENTS = [
    ([], "x.json: not an object; write"),
    ({"text": "x"}, "x.json: no 'data'; write"),
    ({"data": {}}, "x.json: 'data' is of type object; write"),
    ({"data": ["x"]}, r"x.json: data\[0\] not an object; write"),
    ({"data": []}, "x.json: no questions"),
    (
        squad_file({"id": "a"}),
        r"data\[0\].paragraphs\[0\].qas\[0\] no 'question'",
    ),
    (
        squad_file(question("a", ("0", "The"))),
        "'answer_start' is of type string",
    ),
    (
        squad_file(question("a"), question("a")),
        "first is 'a'; give each question",
    ),
]


@pytest.mark.parametrize("content, said", BAD_CONTENTS)
def test_a_bad_file_is_refused_in_one_line_with_the_place(read, content, said):
    with pytest.raises(errors.UserError, match=said) as caught:
        read(content)
    assert "\n" not in str(caught.value)


def test_text_that_is_not_json_is_refused(tmp_path):
    files.write_text(f"{tmp_path}/x.json", "{")
    with pytest.raises(errors.UserError, match="x.json: not JSON"):
        squad.read(f"{tmp_path}/x.json")


@pytest.mark.parametrize("seed", range(20))
def test_the_best_span_is_the_best_of_all_spans(seed):
    rng = np.random.default_rng(seed)
    length, longest = rng.integers(1, 12), int(rng.integers(1, 9))
    # Few different logits, so that some are equal.
    start_logits, end_logits = rng.integers(-3, 3, [2, length]).astype(
        np.float32
    )
    is_context = rng.random(length) < 0.7
    is_context[rng.integers(length)] = True
    best = max(
        (start_logits[start] + end_logits[end], -start, -end)
        for start in range(length)
        for end in range(start, min(start + longest, length))
        if is_context[start] and is_context[end]
    )
    found = squad.best_span(start_logits, end_logits, is_context, longest)
    assert found == (-best[1], -best[2], best[0])


def test_without_a_context_no_span_has_a_score():
    logits = np.ones(3, np.float32)
    assert (
        squad.best_span(logits, logits, np.zeros(3, bool), 2).score == -np.inf
    )


def test_answers_are_compared_without_case_articles_and_punctuation():
    assert squad.normalize_answer(" The  U.S.-\tan A* theme ") == "us theme"
    assert squad.exact_match("the Rhine!", ["Danube", "rhine"]) == 1
    assert squad.exact_match("Rhine", ["Danube", "the Rhine river"]) == 0
    assert squad.f1("Rhine", ["Danube", "the Rhine river"]) == 2 / 3
    assert squad.f1("north north", ["north"]) == 2 / 3


def test_no_answer_is_right_where_there_is_none():
    for score in (squad.exact_match, squad.f1):
        assert score("", []) == 1
        assert score("", ["Rhine"]) == 0
        assert score("Rhine", []) == 0
        assert score("", ["the"]) == 1  # No word is left of it.


def test_scores_are_those_of_the_official_script():
    rng = random.Random(0)
    words = ["the", "a", "Rhine", "rhine,", "-", "é", "an.", "North", "U.S."]
    for _ in range(500):
        answer, *gold = (
            " ".join(rng.choices(words, k=rng.randrange(5))) for _ in range(3)
        )
        exact = max(squad_metrics.compute_exact(each, answer) for each in gold)
        f1 = max(squad_metrics.compute_f1(each, answer) for each in gold)
        if all(map(squad.normalize_answer, gold)):
            assert squad.exact_match(answer, gold) == exact
            assert squad.f1(answer, gold) == pytest.approx(f1)


def test_questions_are_named_by_their_ids():
    found = examples.Questions(
        path="x.json", ids=["a"], questions=["?"], contexts=[""], answers=[[]]
    )
    assert found.name_of(0) == "x.json: question a"


def test_the_score_is_that_of_the_answer_that_is_given():
    what = question_task.QuestionAnswering(
        task_config.TaskConfig(task="question_answering"), tasks.VOCAB
    )
    given = examples.Questions(
        path="x.json",
        ids=["1"],
        questions=["who ?"],
        contexts=["seen by ann"],
        answers=[[]],
    )
    # [CLS] who ? [SEP] seen by ann [SEP]
    logits = np.array([[3.0, 0, 0, 0, 0, 0, 2, 0]])
    outputs = {"start_logits": logits, "end_logits": logits}
    (found,) = what.answers(given, outputs)
    assert (found["answer"], found["score"]) == ("ann", 4)
    what.labels = ("no answer",)
    (found,) = what.answers(given, outputs)
    assert (found["answer"], found["score"]) == ("", 6)
