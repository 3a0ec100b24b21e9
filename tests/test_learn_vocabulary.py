"""Learning a vocabulary: repeatable, of the right size, and usable."""

import json
import os
import pydoc_data.topics
import random
import subprocess
import sys

import numpy as np
import pytest

from bert_pretrain import errors, files
from bert_pretrain.data import vocabulary
from helpers import builds
from tfrecord_builders import learn_vocabulary
from tfrecord_builders.building import pipeline
from tfrecord_builders.quality import cleaning
from tfrecord_builders.sources import documents
from tfrecord_builders.tokens import (
    learn_config,
    sentences,
    tokenization,
    vocabulary_learner,
)

TOPICS = [
    pydoc_data.topics.topics[name] for name in sorted(pydoc_data.topics.topics)
]
CHINESE = "今天天气很好，我们去公园吧。你来吗？新华社北京电，记者今天报道。"


@pytest.fixture
def corpus(tmp_path):
    path = tmp_path / "topics.txt"
    path.write_text(
        "\n".join(
            " ".join(topic.split()) + " Café Zoë №5 ½." for topic in TOPICS
        ),
        encoding="utf-8",
    )
    return str(path)


def _config(corpus, output_file, **values):
    return learn_config.LearnConfig(
        source=documents.SourceConfig(
            source=("text",), input=(corpus,), text_layout="line"
        ),
        output_file=str(output_file),
        **values,
    )


@pytest.mark.parametrize("is_lower_case", [True, False])
def test_a_vocabulary_has_the_size_and_tokens_that_were_asked_for(
    is_lower_case, corpus, tmp_path, capsys
):
    path = str(tmp_path / "out" / "vocab.txt")
    learn_vocabulary.main(
        _config(corpus, path, vocab_size=2000, lower_case=is_lower_case)
    )
    vocab = vocabulary.read(path)
    assert vocab.size == 2000
    assert vocab.is_lower_case == is_lower_case
    assert vocab.tokens[:5] == ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
    assert {"the", "##ing", "function", "(", "##s"} <= set(vocab.tokens)
    assert ("Python" in vocab.tokens) != is_lower_case
    # It has no token that the tokenizer never finds.
    assert all(
        tokenization.normalize(token, is_lower_case, is_lower_case) == token
        for token in vocab.tokens[5:]
    )
    output = capsys.readouterr().out
    assert f"{len(TOPICS):,} documents" in output
    assert f"{path}: 2,000 tokens" in output
    assert "warning" not in output


def test_the_text_is_covered(corpus):
    vocab = vocabulary_learner.learn(TOPICS, 2000, True)
    text = [sentence for topic in TOPICS for sentence in sentences.split(topic)]
    ids, _ = tokenization.Tokenizer(vocab).tokenize(text)
    assert (ids == vocab.id("[UNK]")).mean() < 1e-3
    assert vocab.is_continuation[ids].mean() < 0.25
    # It was learned from this text. The text uses all pieces but those that
    # were only needed to build longer ones.
    assert len(np.unique(ids)) > 0.8 * vocab.size


@pytest.mark.slow
def test_every_process_learns_the_same_bytes(corpus, tmp_path):
    """The order inside the trainer changes from process to process."""
    outputs = [tmp_path / f"vocab-{i}.txt" for i in range(3)]
    processes = [
        subprocess.Popen(
            [
                sys.executable,
                "-m",
                "tfrecord_builders.learn_vocabulary",
                "--source=text",
                f"--input={corpus}",
                "--text_layout=line",
                "--vocab_size=3000",
                f"--output_file={output}",
            ],
            env=dict(
                os.environ, RAYON_NUM_THREADS=threads, PYTHONHASHSEED=hash_seed
            ),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        for output, threads, hash_seed in zip(
            outputs, ("1", "3"), ("0", "1"), strict=False
        )
    ]
    for process in processes:
        log, _ = process.communicate(timeout=300)
        assert process.returncode == 0, log.decode()
    learn_vocabulary.main(_config(corpus, outputs[2], vocab_size=3000))
    contents = [output.read_bytes() for output in outputs]
    assert contents[0].count(b"\n") == 3000
    assert contents[0] == contents[1] == contents[2]


def test_learning_again_gives_the_same_vocabulary():
    learned = {
        vocabulary_learner.learn(TOPICS, 1500, True).sha256 for _ in range(8)
    }
    assert len(learned) == 1


def test_order_of_documents_does_not_matter():
    assert vocabulary_learner.learn(
        TOPICS, 1500, True
    ) == vocabulary_learner.learn(TOPICS[::-1], 1500, True)


def test_a_small_text_gives_a_small_vocabulary_and_says_so(tmp_path, capsys):
    path = tmp_path / "small.txt"
    path.write_text("the cat sat on the mat and the cat sat " * 5)
    learn_vocabulary.main(
        _config(str(path), tmp_path / "vocab.txt", vocab_size=1000)
    )
    vocab = vocabulary.read(str(tmp_path / "vocab.txt"))
    assert {"the", "cat", "mat"} <= set(vocab.tokens)
    assert (
        f"warning: the text gives only {vocab.size} of 1,000 tokens"
        in capsys.readouterr().err
    )


def test_many_characters_do_not_fill_the_vocabulary():
    ideographs = [chr(0x4E00 + i) * (200 - i // 10) for i in range(2000)]
    vocab = vocabulary_learner.learn([*TOPICS, *ideographs], 1000, True)
    assert vocab.size == 1000
    single = [t for t in vocab.tokens[5:] if len(t.removeprefix("##")) == 1]
    assert 450 < len(single) <= 500
    assert {"一", "丁", "a", "##a", "the"} <= set(vocab.tokens)


def test_each_ideograph_is_a_word():
    vocab = vocabulary_learner.learn([CHINESE * 20, *TOPICS[:5]], 400, True)
    assert set(CHINESE) <= set(vocab.tokens)
    assert not {"##" + character for character in CHINESE} & set(vocab.tokens)


HINDI = "में हिन्दी की किताबें पढ़ता हूँ और नदी के किनारे बैठता हूँ।"
JAPANESE = "ご飯を食べて、がんばってください。パンとピザがすきです。"
SPANISH = "El niño comió jamón en la montaña según mi corazón."


@pytest.mark.parametrize(
    "text, word, are_accents_kept",
    [
        (HINDI, "में", True),
        (JAPANESE, "べ", True),
        ("নদীর ধারে একটি পুরনো শহর আছে।", "নদীর", True),
        ("நதியின் அருகே ஒரு பழைய நகரம் உள்ளது.", "நதியின்", True),
        ("ที่นี่ มี แม่น้ำ และ เมือง เก่า", "ที่นี่", True),
        ("ဒီမှာ မြစ် ရှိတယ်", "မြစ်", True),
        ("שָׁלוֹם לַיְלָה טוֹב", "לַיְלָה", True),
        ("مَكْتَبَةٌ قَدِيمَةٌ", "قَدِيمَةٌ", True),
        (SPANISH, "niño", False),
        (f"{SPANISH} {HINDI * 3}", "niño", True),  # mostly without a case
    ],
)
def test_marks_stay_where_most_letters_have_no_case(
    text, word, are_accents_kept, tmp_path
):
    vocab = vocabulary_learner.learn([text] * 50, 400, True)
    assert vocab.is_lower_case
    assert vocab.strips_accents != are_accents_kept
    assert (word in vocab.tokens) == are_accents_kept
    # Beside the file, so that each program that reads it knows.
    vocab.write(f"{tmp_path}/words.txt")
    assert vocabulary.read(f"{tmp_path}/words.txt") == vocab
    ids, _ = tokenization.Tokenizer(vocab).tokenize([text])
    assert vocab.id("[UNK]") not in ids


def test_accents_of_letters_with_a_case_stay_if_that_is_asked_for():
    text = "Tôi đang học tiếng Việt ở Huế"
    vocab = vocabulary_learner.learn([text] * 50, 400, True, False)
    assert vocab.is_lower_case and not vocab.strips_accents
    assert {"tôi", "đang", "tiếng", "việt", "huế"} <= set(vocab.tokens)
    ids, _ = tokenization.Tokenizer(vocab).tokenize([text])
    assert vocab.id("[UNK]") not in ids
    stripped = vocabulary_learner.learn([text] * 50, 400, True)
    assert {"toi", "đang", "tieng", "viet", "hue"} <= set(stripped.tokens)


def test_text_without_capitals_can_be_kept_as_it_is(tmp_path):
    path = tmp_path / "hindi.txt"
    path.write_text("\n".join([HINDI] * 50), encoding="utf-8")
    output = str(tmp_path / "vocab.txt")
    learn_vocabulary.main(
        _config(str(path), output, vocab_size=300, lower_case=False)
    )
    vocab = vocabulary.read(output)
    assert not vocab.is_lower_case and not vocab.strips_accents
    assert "में" in vocab.tokens


def test_long_words_give_no_tokens():
    # URLs of underscores, DNA, base64 and scripts without spaces.
    words = ["g" * 300, "acgt" * 80, "ab" * 50, "ก" * 99, "中" * 300, "ß" * 101]
    vocab = vocabulary_learner.learn([" ".join(words)] * 20, 2000, True)
    assert "ab" * 50 in vocab.tokens  # A word of 100 characters is no [UNK].
    assert "g" * 20 not in vocab.tokens
    assert "ß" * 20 not in vocab.tokens
    longest = max(len(token.encode()) for token in vocab.tokens)
    assert 100 < longest <= 258
    ids, _ = tokenization.Tokenizer(vocab).tokenize(words)
    assert (ids == vocab.id("[UNK]")).sum() == 3


@pytest.mark.parametrize("seed", range(6))
def test_any_text_gives_a_vocabulary_that_is_read_and_used(seed, tmp_path):
    rng = random.Random(seed)
    texts = [_random_text(rng) for _ in range(40)]
    texts += rng.choices(texts, k=20)
    texts = [clean for text in texts if (clean := cleaning.clean(text))]
    is_lower_case = seed % 2 == 0
    vocab = vocabulary_learner.learn(
        texts,
        rng.choice([100, 400, 3000]),
        is_lower_case,
        rng.choice([True, None]),
    )
    path = f"{tmp_path}/vocab.txt"
    vocab.write(path)
    assert vocabulary.read(path) == vocab
    assert all(
        tokenization.normalize(token, vocab.is_lower_case, vocab.strips_accents)
        == token
        for token in vocab.tokens[5:]
    )
    tokenizer = tokenization.Tokenizer(vocab)
    split = [part for text in texts for part in sentences.split(text)]
    ids, splits = tokenizer.tokenize(split)
    assert len(splits) == len(split) + 1
    assert (ids == vocab.id("[UNK]")).mean() < 0.9


def test_any_text_is_learned_from_and_built(tmp_path):
    rng = random.Random(7)
    texts = [_random_text(rng) for _ in range(60)]
    files.write_text(
        f"{tmp_path}/news-1.jsonl",
        "\n".join(json.dumps({"text": text}) for text in texts),
    )
    config = builds.config_of(
        str(tmp_path),
        filters="none",
        pairing="nsp",
        num_shards=1,
        eval_fraction=0,
        test_fraction=0,
    )
    learned = learn_config.LearnConfig(
        source=config.dataset.source,
        output_file=config.dataset.vocab_file,
        vocab_size=500,
    )
    learn_vocabulary.main(learned)
    manifest = pipeline.build(config)
    assert manifest.documents["kept"] > 40
    assert manifest.splits["train"].num_examples > 0


def _random_text(rng):
    """Words of one to 400 characters of several scripts, or of any."""
    scripts = [(0x20, 0x7F), (0xA0, 0x24F), (0x370, 0x52F), (0x590, 0x6FF)]
    scripts += [(0x900, 0x97F), (0xE00, 0xE7F), (0x1000, 0x109F)]
    scripts += [(0x1780, 0x17FF), (0x3040, 0x30FF), (0x4E00, 0x4FFF)]
    scripts += [(0xAC00, 0xACFF), (0x1D400, 0x1D7FF), (0x1F300, 0x1F6FF)]
    scripts += [(0x10000, 0x1005D), (0, 0xD7FF), (0xE000, 0x10FFFF)]
    words = []
    for _ in range(rng.randint(1, 20)):
        first, last = rng.choice(scripts)
        alphabet = [
            chr(rng.randint(first, last)) for _ in range(rng.randint(1, 40))
        ]
        length = rng.choice([1, 3, 8, 70, 100, 101, 400])
        words.append("".join(rng.choices(alphabet, k=rng.randint(1, length))))
    return rng.choice([" ", "", ". "]).join(words)


def test_a_text_without_any_word_gives_one_line():
    with pytest.raises(errors.UserError, match="give more text"):
        vocabulary_learner.learn(["x" * 101], 100, True)


def test_a_large_input_is_sampled_evenly_and_repeatably(
    corpus, tmp_path, monkeypatch
):
    monkeypatch.setattr(vocabulary_learner, "_UNIT_BYTES", 1 << 12)
    lines = [f"document {i} " + "word " * 100 for i in range(4000)]
    path = tmp_path / "large.txt"
    path.write_text("\n".join(lines))
    config = _config(str(path), tmp_path / "vocab.txt", max_sample_mb=1)
    sample = vocabulary_learner.read_sample(config)
    assert 2**20 <= sum(map(len, sample)) < 2**20 + 1000
    assert sample == vocabulary_learner.read_sample(config)
    numbers = np.array([int(text.split()[1]) for text in sample])
    assert len(set(numbers)) == len(numbers)
    counts, _ = np.histogram(numbers, bins=4, range=(0, 4000))
    assert counts.min() > 0.35 * len(numbers) / 2


def test_no_documents_gives_one_line(tmp_path):
    path = tmp_path / "empty.txt"
    path.write_text("\u200b", encoding="utf-8")  # A space without width.
    with pytest.raises(errors.UserError, match="no_text"):
        learn_vocabulary.main(_config(str(path), tmp_path / "vocab.txt"))


def test_a_loss_of_nearly_all_documents_is_told(tmp_path, capsys):
    good = "the cat sat on the mat and the cat sat on the mat"
    lines = [good.encode()] * 2 + [b"caf\xe9 au lait"] * 18
    path = tmp_path / "mixed.txt"
    path.write_bytes(b"\n".join(lines))
    config = _config(str(path), tmp_path / "vocab.txt")
    # Some files are given up as a whole; here single documents are.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(documents, "_FILE_FAULTS", ())
        assert vocabulary_learner.read_sample(config) == [good] * 2
    warning = capsys.readouterr().err
    assert "mixed.txt: 20 read, 18 not_utf8; convert the text" in warning


@pytest.mark.parametrize(
    "values, named",
    [
        ({"vocab_size": 20}, "vocab_size=20"),
        ({"max_sample_mb": 0}, "max_sample_mb=0"),
        ({"output_file": "folder/"}, "output_file='folder/'"),
    ],
)
def test_impossible_options_are_refused(values, named, corpus):
    values = {"output_file": "vocab.txt", **values}
    with pytest.raises(errors.UserError, match=named):
        _config(corpus, **values)


def test_a_folder_is_refused_as_the_output_file(corpus, tmp_path):
    with pytest.raises(errors.UserError, match="is a directory"):
        learn_vocabulary.main(_config(corpus, tmp_path))
