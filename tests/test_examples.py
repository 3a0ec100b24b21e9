"""The applications in examples/: data, decisions, and whole runs."""

import collections
import datetime
import io
import json
import math
import pathlib
import re
import shlex
import string
import types

import numpy as np
import pytest
import yaml

from bert_pretrain import command_line, errors
from bert_pretrain.data import vocabulary
from bert_pretrain.finetuning import (
    finetune_config,
    finetuning,
    prediction,
)
from bert_pretrain.tasks import tables
from examples.customer_service import answer
from examples.finance_news import watch
from examples.recommendation import recommend
from helpers import tasks

ROOT = pathlib.Path(__file__).parent.parent / "examples"
APPLICATIONS = ("customer_service", "finance_news", "recommendation")


class FakePredictor:
    """Stands in for a fine-tuned model: a function gives a text its values."""

    def __init__(self, values_of, classes=()):
        self._values_of = values_of
        self._classes = classes
        self.task = types.SimpleNamespace(labels=classes)

    def predict_texts(self, texts):
        probabilities_NC = np.array([self._values_of(text) for text in texts])
        label_ids = probabilities_NC.argmax(axis=1)
        return prediction.Predictions(
            [self._classes[i] for i in label_ids],
            label_ids,
            probabilities_NC,
            self._classes,
        )

    def embed(self, texts):
        return np.array([self._values_of(text) for text in texts], np.float32)


def run_with(monkeypatch, predictor, application, config):
    """Runs an application with a stand-in for the model that it loads."""
    monkeypatch.setattr(prediction, "load", lambda model_dir: predictor)
    application.main(config)


def one_hot(index, size):
    return np.eye(size)[index]


# --------------------------------------------------------- customer service


def test_an_answer_to_an_intent_that_the_model_does_not_know_is_refused():
    answer.check_intents("answers.yaml", {"refund": "Yes."}, ["refund", "none"])
    with pytest.raises(errors.UserError, match="answers.yaml.*'refnud'"):
        answer.check_intents("answers.yaml", {"refnud": "Yes."}, ["refund"])


def test_a_model_without_the_label_negative_cannot_watch(monkeypatch, tmp_path):
    config = watch.WatchConfig(
        model_dir="model",
        input_file=f"{tmp_path}/headlines.jsonl",
        output_dir=f"{tmp_path}/out",
        rule=watch.Rule(),
    )
    fake = FakePredictor(lambda text: [1.0, 0.0], ("0", "1"))
    with pytest.raises(errors.UserError, match="labels 0, 1.*no alert"):
        run_with(monkeypatch, fake, watch, config)


ANSWERS = {"refund": "In five days.", "login": "Use the link."}


def read_questions(part):
    columns = tables.Columns(text=("question",), label="intent")
    return tables.read(str(ROOT / f"customer_service/{part}.tsv"), [columns])


def test_questions_of_customers_are_in_one_file_only():
    texts = [
        t for p in ("train", "dev", "test") for t in read_questions(p).texts
    ]
    assert len(texts) > 500
    assert len(set(map(str.lower, texts))) == len(texts)


def test_each_intent_but_none_has_an_answer():
    answers = answer.read_answers(str(ROOT / "customer_service/answers.yaml"))
    for part in ("train", "dev", "test"):
        assert set(read_questions(part).labels) == {*answers, "none"}


@pytest.mark.parametrize(
    "precision, threshold", [(1.0, 0.9), (0.75, 0.6), (0.5, 0.2), (0.4, 0.2)]
)
def test_the_threshold_answers_most_questions_with_the_precision(
    precision, threshold
):
    confidences = [0.9, 0.8, 0.7, 0.6, 0.3, 0.2]
    rights = [True, False, True, True, False, False]
    found = answer.choose_threshold(confidences, rights, precision)
    assert found == threshold


def test_no_threshold_is_found_if_the_surest_answer_is_wrong():
    assert answer.choose_threshold([0.9, 0.8], [False, True], 0.95) == math.inf


def test_a_question_without_an_answer_goes_to_a_person_however_sure():
    guess = answer.Guess("none", 0.99)
    assert "a person is asked (0.99: none?)" in answer.reply(guess, ANSWERS, 0)
    # Neither does it count as answered.
    confidences, rights = answer.outcomes([guess], ["none"], ANSWERS)
    assert answer.coverage_at(confidences, 0.0) == 0
    assert math.isnan(answer.precision_at(confidences, rights, 0.0))


def test_an_unsure_question_goes_to_a_person():
    guess = answer.Guess("refund", 0.41)
    assert "In five days." in answer.reply(guess, ANSWERS, 0.41)
    assert "a person is asked (0.41: refund?)" in answer.reply(
        guess, ANSWERS, 0.42
    )


@pytest.mark.parametrize("text", ["- a\n- b", "refund: 5", "a: [", ""])
def test_answers_that_are_no_texts_are_refused(text, tmp_path):
    path = tmp_path / "answers.yaml"
    path.write_text(text)
    with pytest.raises(errors.UserError, match=f"{path}: .*INTENT: ANSWER"):
        answer.read_answers(str(path))


def test_questions_are_answered_with_the_threshold_of_the_dev_file(
    tmp_path, monkeypatch, capsys
):
    labels = ("login", "none", "refund")
    probabilities = {
        "money?": [0.1, 0.1, 0.8],
        "pay": [0.2, 0.2, 0.6],
        "hello": [0.5, 0.3, 0.2],
        "who?": [0.0, 0.9, 0.1],
        "password": [0.7, 0.2, 0.1],
        "pass": [0.45, 0.3, 0.25],
    }
    (tmp_path / "answers.yaml").write_text(yaml.safe_dump(ANSWERS))
    (tmp_path / "dev.tsv").write_text(
        "question\tintent\nmoney?\trefund\npay\trefund\nhello\tnone\n"
        "who?\tnone\n"
    )
    (tmp_path / "mail.txt").write_text("password\n\n pass\nwho?\n")
    run_with(
        monkeypatch,
        FakePredictor(probabilities.__getitem__, labels),
        answer,
        answer.AnswerConfig(
            model_dir="model",
            answers_file=f"{tmp_path}/answers.yaml",
            dev_file=f"{tmp_path}/dev.tsv",
            test_file=f"{tmp_path}/dev.tsv",
            input_file=f"{tmp_path}/mail.txt",
        ),
    )
    printed = capsys.readouterr().out
    assert "     0.60     50.0%     100.0%  <- chosen\n" in printed
    assert "2 of 4 questions are answered, 100.0% of them right" in printed
    assert printed.endswith(
        "> password\n  Use the link. (0.70: login)\n"
        "> pass\n  -> a person is asked (0.45: login?)\n"
        "> who?\n  -> a person is asked (0.90: none?)\n"
    )


# ------------------------------------------------------------- finance news


def headlines(labels, start="2025-01-01", company="Norvik"):
    """One headline a day: n is negative, 0 neutral, p positive."""
    names = {"n": "negative", "0": "neutral", "p": "positive"}
    first = datetime.date.fromisoformat(start)
    return [
        watch.Headline(
            date=first + day * datetime.timedelta(days=1),
            company=company,
            text=f"{company} {day}",
            label=names[label],
        )
        for day, label in enumerate(labels)
    ]


def events(found, rule=None):
    """The company's watch after all headlines, and how often it reported."""
    company = watch.CompanyWatch(rule or watch.Rule())
    return company, [e for each in found if (e := company.add(each))]


def test_a_rise_of_bad_news_gives_one_alert_that_ends_when_it_is_calm():
    quiet, bad = "00p0n0p" * 4, "nnnnn0n" * 2
    company, reported = events(headlines(quiet + bad + quiet))
    (episode,) = company.episodes
    assert reported == [episode, episode]
    first = datetime.date(2025, 1, 1 + len(quiet))
    assert first < episode.since <= first + datetime.timedelta(days=6)
    assert episode.until > first + datetime.timedelta(days=len(bad))
    assert episode.window.negative == len(episode.headlines) >= 4
    # The base has nothing of the window.
    assert episode.base.all == (episode.since - first).days + len(quiet) - 6


def test_the_calmer_the_news_must_be_the_longer_an_episode_lasts():
    found = headlines("00p0n0p" * 4 + "nnnnn0n" + "00n0p0n00p0" * 2)
    ends = [
        events(found, watch.Rule(calm_above=limit))[0].episodes[0].until
        for limit in (0.02, 0.2, 0.5)
    ]
    assert ends[0] < ends[1] < ends[2]


def test_a_second_rise_after_a_calm_time_is_a_second_episode():
    quiet, bad = "00p0n0p" * 4, "nnnnn0n"
    company, _ = events(headlines(quiet + bad + quiet + bad))
    assert len(company.episodes) == 2


def test_a_company_whose_news_is_always_bad_gives_no_alert():
    company, _ = events(headlines("nnp0nnn" * 10))
    assert not company.episodes


def test_no_alert_without_enough_earlier_headlines():
    found = headlines("0" * 14 + "n" * 6)
    assert not events(found, watch.Rule(min_in_base=15))[0].episodes
    assert events(found, watch.Rule(min_in_base=10))[0].episodes


@pytest.mark.parametrize("negative", range(4))
def test_without_a_base_all_counts_of_negative_headlines_are_as_probable(
    negative,
):
    window = watch.Tally(negative, 3)
    found = window.probability_after(watch.Tally(0, 0))
    assert found == pytest.approx((4 - negative) / 4)


def test_the_probability_is_that_of_drawing_a_share_and_then_headlines():
    rng = np.random.default_rng(0)
    shares = rng.beta(1 + 6, 1 + 20 - 6, 400_000)
    expected = np.mean(rng.binomial(8, shares) >= 5)
    found = watch.Tally(5, 8).probability_after(watch.Tally(6, 20))
    assert found == pytest.approx(expected, rel=0.03)


def test_the_order_of_headlines_does_not_change_the_shares():
    found = headlines("n0pn" * 5)
    rng = np.random.default_rng(0)
    shuffled = [found[i] for i in rng.permutation(len(found))]
    assert events(shuffled)[0].shares() == events(found)[0].shares()


def test_lines_that_are_no_headline_are_counted_and_named_once(
    tmp_path, capsys
):
    good = {"date": "2025-01-02", "company": "A", "headline": "B"}
    lines = [
        json.dumps(good),
        "{",
        "[]",
        json.dumps(good | {"date": "02.01.2025"}),
        json.dumps(good | {"date": "2999-01-01"}),
        json.dumps(good | {"company": " "}),
        json.dumps(good | {"headline": 3}),
        "",
        "{]",
        json.dumps(good | {"label": "neutral"}),
    ]
    path = tmp_path / "news.jsonl"
    path.write_text("\n".join(lines))
    counts = collections.Counter()
    found = list(watch.read_headlines(str(path), counts))
    assert [each.label for each in found] == [None, "neutral"]
    assert counts.total() == 7 and counts["not JSON"] == 2
    warnings = capsys.readouterr().err
    assert f"{path}:2: not JSON; the line is left out." in warnings
    assert f"{path}:9" not in warnings


def test_the_shipped_stream_has_one_company_with_a_rise_of_bad_news():
    counts = collections.Counter()
    path = str(ROOT / "finance_news/headlines.jsonl")
    watches = collections.defaultdict(lambda: watch.CompanyWatch(watch.Rule()))
    for each in watch.read_headlines(path, counts):
        watches[each.company].add(each)
    assert not counts and len(watches) == 6
    alerts = {name: len(each.episodes) for name, each in watches.items()}
    assert {name for name, n in alerts.items() if n} == {"Aster Motors"}
    assert alerts["Aster Motors"] == 1


def test_a_stream_is_watched_to_its_end(tmp_path, monkeypatch, capsys):
    # The model finds what the file says, but one headline.
    path = ROOT / "finance_news/headlines.jsonl"
    shipped = [json.loads(line) for line in path.read_text().splitlines()]
    labels = ("negative", "neutral", "positive")
    label_of = {each["headline"]: each["label"] for each in shipped}
    assert shipped[2]["label"] != "positive"
    label_of[shipped[2]["headline"]] = "positive"
    fake = FakePredictor(
        lambda text: one_hot(labels.index(label_of[text]), 3), labels
    )
    # One headline is late.
    lines = [json.dumps(each) for each in [*shipped[:4], *shipped[5:9]]]
    lines += [json.dumps(shipped[4]), "not JSON"]
    lines += [json.dumps(each) for each in shipped[9:]]
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(lines)))
    run_with(
        monkeypatch,
        fake,
        watch,
        watch.WatchConfig(
            model_dir="model",
            output_dir=str(tmp_path),
            rule=watch.Rule(),
            input_file="-",
            batch_size=7,
        ),
    )
    printed = capsys.readouterr().out
    assert printed.count("ALERT Aster Motors") == printed.count("ALERT") == 1
    (alert,) = (tmp_path / "alerts.jsonl").read_text().splitlines()
    assert json.loads(alert)["company"] == "Aster Motors"
    assert (tmp_path / "sentiment.png").stat().st_size > 10_000
    assert f"{len(shipped)} labelled\n" in printed
    assert f"{len(shipped) - 1} labelled as in the file\n" in printed
    assert "1 not JSON\n" in printed


# ----------------------------------------------------------- recommendation


def read_shipped_library():
    return recommend.read_library(
        str(ROOT / "recommendation/items.jsonl"),
        str(ROOT / "recommendation/histories.jsonl"),
    )


def library_of(*histories):
    """Six items, and users with these histories."""
    return recommend.Library(
        titles=list("ABCDEF"),
        texts=[f"{title}. Text" for title in "ABCDEF"],
        histories={f"u{i}": list(h) for i, h in enumerate(histories)},
    )


def test_the_latest_items_of_a_history_say_what_is_near():
    vectors_NH = np.array([[1, 0], [0, 2], [3, 3], [-1, 0]])
    cosines_UN = recommend.cosines([[3, 0, 1], [1, 3]], vectors_NH, 2)
    half = math.sqrt(0.5)
    # The lengths of vectors do not count.
    np.testing.assert_allclose(cosines_UN[0], [half, half, 1, -half])
    np.testing.assert_allclose(cosines_UN[1], [-half, half, 0, half], atol=1e-9)


def test_recall_counts_the_last_items_among_the_first_k():
    scores_UN = np.array([[0.9, 0.8, 0.1], [0.2, 0.3, 0.4]])
    assert recommend.recall(scores_UN, [0, 0], 1) == 0.5
    assert recommend.recall(scores_UN, [1, 1], 2) == 1.0
    assert recommend.recall(scores_UN, [2, 2], 2) == 0.5


def test_items_of_equal_score_count_as_in_random_order():
    scores_UN = np.array([[0.9, 0.5, 0.5, 0.5, 0.1]])
    for k, expected in enumerate((0, 0, 1 / 3, 2 / 3, 1, 1)):
        assert recommend.recall(scores_UN, [2], k) == pytest.approx(expected)


def test_pairs_to_train_on_know_nothing_of_the_last_items(tmp_path):
    library = library_of([0, 1, 2, 3], [4, 5, 0, 1], [2, 0])
    recommend.write_pairs(library, str(tmp_path), num_latest=2)
    dev, train = (
        [line.split("\t") for line in path.read_text().splitlines()[1:]]
        for path in sorted(tmp_path.iterdir())
    )
    assert train == [["E. Text", "F. Text"], ["F. Text E. Text", "A. Text"]]
    # Of the first user.
    assert [pair for pair in dev if pair[2] == "1"] == [
        ["A. Text", "B. Text", "1"],
        ["B. Text A. Text", "C. Text", "1"],
    ]
    assert len(dev) == 4


def test_good_vectors_have_full_recall_and_random_what_chance_gives():
    library = library_of([0, 1, 2], [3, 4, 5], [1, 0, 2])

    def embed(texts):
        counts_UN = [[text.count(f"{n}.") for n in "ABCDEF"] for text in texts]
        return np.array(counts_UN) @ np.array([[1, 0]] * 3 + [[0, 1]] * 3)

    lines = recommend.recall_table(library, embed, embed(library.texts), 2)
    table = {
        line[:14].strip(): line[14:].split() for line in lines.splitlines()
    }
    assert table["recall at k"] == ["1", "5", "10", "20"]
    assert table["embeddings"] == ["100.0%"] * 4
    assert table["as one text"] == ["100.0%"] * 4
    # Of six items, two are in each history.
    assert table["random"][:2] == ["25.0%", "100.0%"]
    assert table["words"] == table["random"]


def test_what_a_user_has_had_is_not_recommended(monkeypatch, capsys):
    library = read_shipped_library()
    rng = np.random.default_rng(0)
    fake = FakePredictor(lambda text: rng.normal(size=8))
    config = recommend.RecommendConfig(
        model_dir="model", user=("u001", "u002"), num_recommendations=150
    )
    run_with(monkeypatch, fake, recommend, config)
    _, *printed = capsys.readouterr().out.split("\n\n")
    for user, text in zip(config.user, printed, strict=True):
        history = library.histories[user]
        assert library.titles[history[-1]] in text.splitlines()[0]
        for item, title in enumerate(library.titles):
            assert (f"  {title}\n" in text + "\n") == (item not in history)


@pytest.mark.parametrize(
    "items, histories, complaint",
    [
        ('{"id": 1}', "", "items.jsonl:1: no 'id' that is a str"),
        ("{", "", "items.jsonl:1: not JSON"),
        (2 * '{"id":"a","title":"A","description":"B"}\n', "", "2: another"),
        ("", '{"user":"u","items":["a"]}', "histories.jsonl:1: the item 'a'"),
        ("", '{"user":"u","items":[]}', "no history has two items"),
    ],
)
def test_wrong_items_and_histories_are_named(
    items, histories, complaint, tmp_path
):
    for name, text in (("items", items), ("histories", histories)):
        (tmp_path / f"{name}.jsonl").write_text(text)
    with pytest.raises(errors.UserError, match=complaint):
        recommend.read_library(
            f"{tmp_path}/items.jsonl", f"{tmp_path}/histories.jsonl"
        )


def test_an_unknown_user_is_named():
    config = recommend.RecommendConfig(model_dir="model", user=("nobody",))
    with pytest.raises(errors.UserError, match="--user=nobody .* u001, u002"):
        recommend.main(config)


# --------------------------------------------------- the commands of READMEs

_OWN_DATA = "## With your own data"
_PROGRAMS = {
    "bert_pretrain.finetune": (
        finetune_config.FinetuneConfig,
        finetuning.finetune,
    ),
    "examples/customer_service/answer.py": (answer.AnswerConfig, answer.main),
    "examples/finance_news/watch.py": (watch.WatchConfig, watch.main),
    "examples/recommendation/recommend.py": (
        recommend.RecommendConfig,
        recommend.main,
    ),
}


def commands_in(text):
    """(program, flags) of each command in the code blocks of a README."""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.M | re.S)
    for block in (block for language, block in blocks if not language):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line.partition("|")[2] or line)
            if words[:1] == ["python"]:
                _, program, *flags = [word for word in words if word != "-m"]
                yield program, flags


@pytest.mark.parametrize("name", APPLICATIONS)
def test_the_options_in_a_readme_exist(name):
    commands = list(commands_in((ROOT / name / "README.md").read_text()))
    assert len(commands) >= 4
    for program, flags in commands:
        command_line.parse(_PROGRAMS[program][0], flags)


@pytest.mark.slow
@pytest.mark.parametrize("name", APPLICATIONS)
def test_the_commands_of_a_readme_go_from_data_to_a_result(
    name, tmp_path, monkeypatch, capsys
):
    # A tiny model, from random weights and for an epoch.
    model = tmp_path / "output" / "export"
    text = " ".join(
        path.read_text() for path in sorted((ROOT / name).glob("*.[tj]s*"))
    )
    words = collections.Counter(re.findall("[a-z]+", text.lower()))
    frequent = [word for word, _ in words.most_common(500)]
    letters = [*string.ascii_lowercase, *string.digits, *string.punctuation]
    tokens = dict.fromkeys(
        [*frequent, *letters, *(f"##{each}" for each in letters)]
    )
    tasks.write_model(
        model,
        vocabulary.Vocabulary(
            (*vocabulary.SPECIAL_TOKENS, *tokens), is_lower_case=True
        ),
        max_position_embeddings=128,
    )
    (tmp_path / "examples").symlink_to(ROOT)
    monkeypatch.chdir(tmp_path)
    readme = (ROOT / name / "README.md").read_text().partition(_OWN_DATA)[0]
    for program, flags in commands_in(readme):
        config_class, main = _PROGRAMS[program]
        if main is finetuning.finetune:
            flags = [*flags, "--seeds=1", "--num_epochs=1"]

        main(command_line.parse(config_class, flags))
    printed = capsys.readouterr().out
    assert {
        "customer_service": "> where is my parcel\n",
        "finance_news": "210 labelled\n",
        "recommendation": "embeddings ",
    }[name] in printed
