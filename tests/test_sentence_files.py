"""sentence-transformers computes the embeddings that we compute."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
import transformers

from bert_pretrain.interchange import task_files
from helpers import fine_tuned

# The second text has more tokens than the model takes.
TEXTS = ["The cats sat.", "the dog, the big, big dog ran.", "cat"]


@pytest.mark.filterwarnings("ignore")  # The library's own.
@pytest.mark.parametrize("pooling", ["cls", "mean", "max"])
def test_sentence_transformers_gives_our_embeddings(pooling, tmp_path):
    pytest.importorskip("torch")
    library = pytest.importorskip("sentence_transformers")
    task = dataclasses.replace(
        fine_tuned.TASKS["embedding"], pooling=pooling, max_seq_length=9
    )
    model, folder = fine_tuned.model_of(task), str(tmp_path)
    task_files.write(model, folder, scores={"spearman": 0.5})

    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    batch = tokenizer(
        TEXTS, padding="max_length", truncation=True, return_tensors="np"
    )
    batch = {name: tf.constant(value) for name, value in batch.items()}
    ours = fine_tuned.outputs_of(model, fine_tuned.with_slots(batch))

    theirs = library.SentenceTransformer(folder, device="cpu")
    assert theirs.max_seq_length == 9
    np.testing.assert_allclose(theirs.encode(TEXTS), ours, atol=1e-5)
