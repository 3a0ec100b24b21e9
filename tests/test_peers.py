"""The training steps of other projects, traced as ours is."""

import pytest
import transformers

from bert_pretrain.compilation import peers, training_step


@pytest.mark.slow
@pytest.mark.parametrize("name", peers.NAMES)
def test_a_peer_s_step_contains_its_model_and_sums_its_gradients(name):
    bert_config = transformers.BertConfig(
        vocab_size=100,
        hidden_size=64,
        num_hidden_layers=1,
        num_attention_heads=1,
        intermediate_size=128,
        max_position_embeddings=32,
    )
    rows = training_step.BatchShape(
        num_rows=2,
        seq_length=16,
        num_predictions=4,
        is_packed=False,
        num_microbatches=1,
    )
    step = peers.lower(name, bert_config, "float32", rows, 8)
    bert = transformers.TFBertForMaskedLM(bert_config)
    bert.build_in_name_scope()
    ours = 4 * sum(v.shape.num_elements() for v in bert.variables)
    # tf-models-official's encoder has a pooler too.
    pooler = 4 * 64 * 65 * (name == "official")
    assert step.variable_bytes == ours + pooler
    assert step.optimizer_bytes == pytest.approx(2 * ours, rel=0.1)
    assert b"all-reduce" in step.hlo
    assert step.useful_flops > 0
