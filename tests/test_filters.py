"""Quality filters drop bad documents and keep prose of any script."""

import collections
import random
import sys

import numpy as np
import pytest

from bert_pretrain import errors
from helpers import prose
from tfrecord_builders.quality import filters, quality_config, word_hashes

CONFIG = quality_config.FiltersConfig(min_document_chars=20)
NEWS = (
    "Heavy rain closed two roads on the north coast on Tuesday, and the "
    "bureau said that more was to come before the weekend. Farmers, who had "
    "waited for months, were glad of it; the council, which has to mend 3 "
    "bridges, was not. About 40 families left their homes overnight and "
    "slept in a school. Nobody was hurt, said the mayor."
)
CHINESE = (
    "新华社北京电，记者今天从有关部门获悉，今年前三季度，全国居民人均可支配"
    "收入同比实际增长百分之五点二，城乡差距继续缩小。专家表示，下一阶段要着力"
    "扩大内需，促进就业，稳定物价，让更多群众分享发展的成果。"
)
JAPANESE = (
    "気象庁によると、低気圧の影響で九州北部では夜にかけて激しい雨が降る見込み"
    "だ。同庁は土砂災害や河川の増水に警戒するよう呼びかけている。鉄道各社は始発"
    "から一部の区間で運転を見合わせ、利用客に影響が出た。"
)
HINDI = (
    "मौसम विभाग ने कहा है कि अगले दो दिनों में राज्य के कई हिस्सों में तेज बारिश "
    "हो सकती है और लोगों को घर में रहने की सलाह दी गई है।"
)


def reason(text, config=CONFIG):
    (found,) = filters.judge([text], word_hashes.Words([text]), config)
    return found


@pytest.mark.parametrize(
    "text", [NEWS, CHINESE, JAPANESE, HINDI, *prose.NEWS.values()]
)
def test_prose_of_any_script_is_kept(text):
    assert reason(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "The stone bridge crosses the river below the old town, and in summer "
        "people walk over it every evening.",
        "石桥在老城下方跨过河流，夏天的每个傍晚，人们都会从桥上慢慢走过。",
        "石橋は旧市街の下で川を渡っており、夏の夕方には毎日、大勢の人々がその上を歩く。",
        "돌다리는 옛 시가지 아래에서 강을 건너며, 여름 저녁마다 많은 "
        "사람들이 그 위를 걷는다.",
    ],
)
def test_the_same_text_is_long_enough_in_every_script(text):
    config = quality_config.FiltersConfig()
    words = word_hashes.Words([text, text[: len(text) // 2]])
    judged = filters.judge([text, text[: len(text) // 2]], words, config)
    assert judged == [None, "too_short"]


def test_each_reason():
    numbers = " ".join(f"{i}.{i}% |" for i in range(99))
    unlike = [f"averylongword{i}" for i in range(300)]
    phrase = "the shop around the corner of the street is open all day "
    assert reason("short") == "too_short"
    assert reason(numbers) == "few_letters"
    assert reason(f"{NEWS}\n" + "Next page\n" * 3) == "repeated_lines"
    assert reason(f"{NEWS}\n{NEWS}") == "repeated_lines"
    assert reason(f"{NEWS} {NEWS}") == "repeated_ngrams"
    assert reason(" ".join(unlike) + " buy now" * 50) == "repeated_ngrams"
    assert reason(NEWS + phrase * 3) == "repeated_ngrams"
    assert reason(CHINESE + "立即购买" * 30) == "repeated_ngrams"
    for language in ("th", "lo", "km", "my", "zh", "ja"):
        text = prose.NEWS[language]
        assert reason(text + text[20 : len(text) // 2]) == "repeated_ngrams", (
            language
        )
        assert reason(text + text[20:26] * 30) == "repeated_ngrams", language
        assert reason(text[20] * 400) == "repeated_ngrams", language
    # N-grams of documents below 50 words are not checked.
    assert reason("bye bye love, bye bye happiness, hello") is None


def plain_shares(tokens):
    """A simple version of Gopher's n-gram measures: share by n."""
    shares = {}
    for n in range(2, 11):
        ngrams = [tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)]
        if n < 5:
            top = max(collections.Counter(ngrams).values())
            shares[n] = n * top / len(tokens) if top > 1 else 0
        else:
            seen, covered = set(), set()
            for i, ngram in enumerate(ngrams):
                if ngram in seen:
                    covered.update(range(i, i + n))
                seen.add(ngram)
            shares[n] = len(covered) / len(tokens)
    return shares


def test_ngrams_are_judged_by_gopher_s_rules():
    limits = filters.MAX_TOP_NGRAM | filters.MAX_REPEATED_NGRAMS
    rng = random.Random(1)
    texts = []
    for _ in range(200):
        # Texts range from no repeats to many repeats.
        phrases = [
            [
                f"averylongword{rng.randrange(3000)}"
                for _ in range(rng.randint(1, 15))
            ]
            for _ in range(rng.randint(2, 60))
        ]
        chosen = rng.choices(phrases, k=rng.randint(20, 60))
        chosen += [[f"another{i}" for i in range(rng.randint(0, 1500))]]
        texts.append([word for phrase in chosen for word in phrase])
    joined = [" ".join(tokens) for tokens in texts]
    found = filters.judge(joined, word_hashes.Words(joined), CONFIG)
    for tokens, why in zip(texts, found, strict=True):
        exceeds = len(tokens) >= 50 and any(
            share > limits[n] for n, share in plain_shares(tokens).items()
        )
        assert why == ("repeated_ngrams" if exceeds else None)
    assert 40 < sum(why is None for why in found) < 160


def test_language_keeps_only_the_given_languages():
    texts = [NEWS, CHINESE, JAPANESE, HINDI]
    found = word_hashes.Words(texts)
    for language, place in {"en": 0, "zh": 1, "ja": 2, "hi": 3}.items():
        config = quality_config.FiltersConfig(
            language=(language,), min_document_chars=20
        )
        reasons = filters.judge(texts, found, config)
        assert [i for i, why in enumerate(reasons) if not why] == [place]
    config = quality_config.FiltersConfig(
        language=("en", "zh"), min_document_chars=20
    )
    assert filters.judge(texts, found, config)[:2] == [None, None]


def test_wrong_options_are_refused(monkeypatch):
    with pytest.raises(errors.UserError, match="language='english' is not"):
        quality_config.FiltersConfig(language=("english",))
    with pytest.raises(errors.UserError, match="filters=none"):
        quality_config.FiltersConfig(language=("en",), filters="none")
    with pytest.raises(errors.UserError, match="min_document_chars=0"):
        quality_config.FiltersConfig(min_document_chars=0)
    monkeypatch.delitem(sys.modules, "py3langid", raising=False)
    monkeypatch.setattr(
        quality_config.importlib.util, "find_spec", lambda name: None
    )
    with pytest.raises(errors.UserError, match=r"pip install .*\[language\]"):
        quality_config.FiltersConfig(language=("en",))


def test_texts_without_words_are_judged_too():
    texts = ["!!! ??? " * 20, "", NEWS]
    found = filters.judge(texts, word_hashes.Words(texts), CONFIG)
    assert found == ["few_letters", "too_short", None]
    assert np.shape(filters.judge([""], word_hashes.Words([""]), CONFIG)) == (
        1,
    )
