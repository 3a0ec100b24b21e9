"""Digests and MinHash signatures find duplicates, and only duplicates."""

import random

import numpy as np
import pytest

from bert_pretrain import errors
from helpers import prose
from tfrecord_builders.quality import minhash, quality_config, word_hashes

CONFIG = quality_config.DeduplicationConfig()
VOCABULARY = [f"word{i}" for i in range(5000)]


def digests(*texts):
    return [minhash.digest(text) for text in texts]


def signatures(texts, config=CONFIG):
    return minhash.sign(word_hashes.Words(texts), config)


def shingles(text):
    found = text.split()
    return {tuple(found[i : i + 5]) for i in range(len(found) - 4)}


def jaccard(first, second):
    first, second = shingles(first), shingles(second)
    return len(first & second) / len(first | second)


def edited(text, num_edits, rng):
    found = text.split()
    for place in rng.sample(range(len(found)), num_edits):
        found[place] = rng.choice(VOCABULARY)
    return " ".join(found)


def similarity(texts):
    prints = signatures(texts).fingerprints_NB
    return minhash._similarity(prints[:-1], prints[1:])


def is_found(texts, config=CONFIG):
    """Whether the last text is linked to the first."""
    bands, prints = signatures(texts, config)
    threshold = config.near_duplicate_threshold
    for keys in bands.T:
        members, groups = minhash.group(keys)
        later, earlier, _ = minhash.find_alike(
            groups, prints[members], threshold
        )
        pairs = zip(members[later], members[earlier], strict=True)
        if (len(texts) - 1, 0) in pairs:
            return True
    return False


def test_digests_ignore_only_case_space_and_punctuation():
    one, two, three, four, cjk, cjk_2 = digests(
        "It's the U.S. — again!",
        "its  THE\nus again",
        "It's the U.S. — against!",
        "its the us",
        "今天，天气好。",
        "今天天气好",
    )
    assert one == two and cjk == cjk_2
    assert len({one, three, four, cjk}) == 4
    # Alone or among others, in ASCII or not.
    assert digests("its the us") == [four]


def test_digests_read_a_long_text_to_its_end(monkeypatch):
    monkeypatch.setattr(word_hashes, "MAX_CHARS", 10)
    text = "a b c d e f g h i j k l m ö"
    assert len(set(digests(text, text + "g", text.upper()))) == 2


def test_repeats_come_with_the_first_equal_document():
    rng = np.random.default_rng(0)
    digests_ = rng.integers(0, 256, (6, 16), np.uint8)
    digests_[4] = digests_[1]
    digests_[5] = digests_[1]
    digests_[3, :8] = digests_[0, :8]  # Only the first half is equal.
    repeats, firsts = minhash.find_repeats(digests_)
    assert sorted(zip(repeats, firsts, strict=True)) == [(4, 1), (5, 1)]


def test_signatures_depend_on_the_text_only():
    rng = random.Random(0)
    texts = [" ".join(rng.choices(VOCABULARY, k=k)) for k in (3, 50, 400)]
    together = signatures(texts)
    for i, text in enumerate(texts):
        alone = signatures([text])
        assert (alone.bands_NK[0] == together.bands_NK[i]).all()
        assert (alone.fingerprints_NB[0] == together.fingerprints_NB[i]).all()
    # Another version of rensa must not change them, because a build may be
    # continued with it.
    bands, prints = signatures(["the quick brown fox jumps over the dog"])
    assert bands[0, 0] == 13051962816499602388
    assert prints[0, :4].tolist() == [46, 132, 160, 247]


def test_similarity_estimates_jaccard_similarity_of_shingles():
    rng = random.Random(1)
    deviations = []
    for num_edits in (0, 2, 5, 10, 30, 400):
        for _ in range(20):
            text = " ".join(rng.choices(VOCABULARY, k=400))
            other = edited(text, num_edits, rng)
            deviations.append(
                similarity([text, other])[0] - jaccard(text, other)
            )
    assert abs(np.mean(deviations)) < 0.02
    assert np.std(deviations) < 0.08


@pytest.mark.parametrize("language", ["en", "th", "my", "km", "zh", "ja"])
def test_near_duplicates_are_found_in_any_script(language):
    text = prose.NEWS[language]
    # Other spaces and punctuation, a new ending, one letter.
    middle = len(text) // 2
    for other in (
        text.replace(" " if text.count(" ") < 20 else ",", ""),
        text + text[40:50],
        text[:middle] + text[middle + 1 :],
    ):
        assert similarity([text, other])[0] > 0.75, other
    assert similarity([text, text[::-1]])[0] < 0.3
    assert not is_found([text, text[::-1]])


@pytest.mark.parametrize("threshold", [0.65, 0.8, 0.85, 0.9, 0.95])
def test_pairs_far_above_the_threshold_are_found_and_far_below_not(threshold):
    config = quality_config.DeduplicationConfig(
        near_duplicate_threshold=threshold
    )
    bands = minhash.bands(config)
    assert bands.num_bands * bands.size <= 128
    rng = random.Random(2)
    found_above = []
    for _ in range(40):
        text = " ".join(rng.choices(VOCABULARY, k=500))
        far = edited(text, 80, rng)
        while jaccard(text, far) > threshold - 0.15:
            far = edited(far, 5, rng)
        assert not is_found([text, far], config)
        found_above.append(is_found([text, text + " end"], config))
    assert np.mean(found_above) > 0.95


def test_members_of_a_group_are_linked_to_similar_members():
    rng = random.Random(3)
    first, second = (" ".join(rng.choices(VOCABULARY, k=300)) for _ in "ab")
    texts = [first, second, edited(first, 2, rng), edited(second, 2, rng)]
    prints = signatures(texts).fingerprints_NB
    later, earlier, found = minhash.find_alike(
        np.zeros(4), prints, threshold=0.8
    )
    assert sorted(zip(later, earlier, strict=True)) == [(2, 0), (3, 1)]
    assert (found >= 0.8).all()
    assert len(minhash.find_alike(np.zeros(0), prints[:0], 0.8)[0]) == 0


def test_components_equal_those_of_a_simple_search():
    rng = np.random.default_rng(4)
    for num_links in (0, 1, 30, 60, 200):
        links = np.zeros(num_links, minhash.LINK)
        ends = np.sort(rng.integers(0, 100, (num_links, 2)), axis=1) * 7
        links["earlier"], links["later"] = ends.T
        groups = {int(i): {int(i)} for i in np.unique(ends)}
        for a, b in ends.tolist():
            merged = groups[a] | groups[b]
            groups.update(dict.fromkeys(merged, merged))
        expected = sorted(i for i, group in groups.items() if i > min(group))
        linked = np.unique(ends).astype(np.uint32)
        for order in (links, links[::-1]):
            components = minhash.Components(linked)
            for some in np.array_split(order, 3):
                components.connect(some)
            assert components.later_members().tolist() == expected


def test_thresholds_out_of_range_are_refused():
    for value in (0.3, 1.0, -0.1):
        with pytest.raises(errors.UserError, match="near_duplicate_threshold"):
            quality_config.DeduplicationConfig(near_duplicate_threshold=value)
