"""Document parts: read as they were written, and of bounded size."""

import numpy as np
import pytest

from tfrecord_builders.quality import minhash
from tfrecord_builders.sources import documents
from tfrecord_builders.stages import document_parts


def write(prefix, texts, with_signatures):
    writer = document_parts.PartWriter(prefix)
    rng = np.random.default_rng(0)
    written = []
    for i, text in enumerate(texts):
        digest = rng.bytes(minhash.DIGEST_BYTES)
        signature = None
        if with_signatures:
            signature = minhash.Signatures(
                rng.integers(0, 2**63, 3, np.uint64),
                rng.integers(0, 256, minhash.FINGERPRINT_BYTES, np.uint8),
            )
        writer.start_input(i // 8, 100)
        document = documents.Document(f"id{i}", text, LANGUAGES[i % 3])
        writer.add(document, f"file{i // 3}", digest, signature)
        written.append((digest, text, signature))
    writer.flush()
    folder = prefix.rpartition("/")[0]
    return written, document_parts.open_parts(folder, writer.parts)


LANGUAGES = ["de", "", "zh-min-nan"]
TEXTS = [f"Text {i}\nwith two lines, “ü” and \u2028 " * 2 for i in range(20)]


@pytest.mark.parametrize("scheme", ["local", "ram"])
def test_documents_are_read_as_they_were_written(tmp_path, scheme):
    folder = str(tmp_path) if scheme == "local" else "ram://parts"
    written, found = write(f"{folder}/0", TEXTS, with_signatures=True)
    assert len(found) > 5
    read = [document for part in found for document in part.read()]
    assert read == [
        (digest, text, LANGUAGES[i % 3])
        for i, (digest, text, _) in enumerate(written)
    ]
    signatures = [signature for _, _, signature in written]
    for k in range(3):
        band = np.concatenate([part.read_band(k) for part in found])
        assert band.tolist() == [each.bands_NK[k] for each in signatures]
    prints = np.concatenate([part.read_fingerprints(3) for part in found])
    assert (prints == [each.fingerprints_NB for each in signatures]).all()
    assert found[1].read_documents([0])[0] == (
        f"id{found[1].first_document}",
        TEXTS[found[1].first_document],
    )


def test_each_document_has_its_file_and_its_input(tmp_path):
    _, found = write(f"{tmp_path}/0", TEXTS, with_signatures=False)
    files = [
        part.sources[i].path for part in found for i in part.source_numbers()
    ]
    assert files == [f"file{i // 3}" for i in range(20)]
    inputs = [part.input for part in found for _ in range(part.num_documents)]
    assert inputs == [i // 8 for i in range(20)]


def test_a_part_ends_at_the_size_that_was_asked_for(tmp_path):
    _, found = write(f"{tmp_path}/0", TEXTS, with_signatures=False)
    size = len(TEXTS[0].encode())
    assert sum(part.num_bytes for part in found) >= 20 * size
    assert max(part.num_bytes for part in found) < 100 + 2 * size
