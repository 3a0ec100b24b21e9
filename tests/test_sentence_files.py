"""sentence-transformers computes the embeddings that we compute."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
import transformers

from bert_pretrain.data import vocabulary
from bert_pretrain.interchange import task_files, task_json
from bert_pretrain.model import adapters, bert_model, heads, model_config

VOCAB = vocabulary.Vocabulary(
    (*vocabulary.SPECIAL_TOKENS, *"the cat ##s dog sat ran big . ,".split()),
    is_lower_case=True,
)
TEXTS = ["The cats sat.", "the dog, the big, big dog ran.", "cat"]


@pytest.mark.filterwarnings("ignore")  # The library's own.
@pytest.mark.parametrize("pooling", ["cls", "mean", "max"])
def test_sentence_transformers_gives_our_embeddings(pooling, tmp_path):
    pytest.importorskip("torch")
    library = pytest.importorskip("sentence_transformers")
    task = task_json.Task(kind="embedding", pooling=pooling, max_seq_length=9)
    tf_keras.utils.set_random_seed(1)
    bert = bert_model.from_config(
        task.with_head(
            transformers.BertConfig(
                vocab_size=VOCAB.size,
                hidden_size=32,
                num_hidden_layers=1,
                num_attention_heads=2,
                intermediate_size=64,
                max_position_embeddings=40,
                initializer_range=0.2,
            )
        )
    )
    model = task_files.FineTunedModel(
        bert=bert,
        adapters=adapters.build(bert, model_config.AdapterConfig(), seed=0),
        vocabulary=VOCAB,
        task=task,
    )
    folder = str(tmp_path)
    task_files.write(model, folder, scores={"spearman": 0.5})

    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    # The second text has more than nine tokens.
    batch = tokenizer(
        TEXTS, padding="max_length", truncation=True, return_tensors="np"
    )
    batch = {name: tf.cast(value, tf.int32) for name, value in batch.items()}
    batch["label_positions"] = tf.zeros([3, 1], tf.int32)
    batch["slot_documents"] = tf.ones([3, 1], tf.int32)
    ours = heads.pooled(bert, batch, pooling, tf.float32)[:, 0]

    theirs = library.SentenceTransformer(folder, device="cpu")
    assert theirs.max_seq_length == 9
    np.testing.assert_allclose(theirs.encode(TEXTS), ours, atol=1e-5)
    found = task_files.read(folder)
    np.testing.assert_array_equal(
        heads.pooled(found.bert, batch, pooling, tf.float32)[:, 0], ours
    )
