"""An encoder of sentences in the layout of sentence-transformers.

Beside the files of a HuggingFace `BertModel` there are:

    modules.json                        the parts: the model, then the pooling
    sentence_bert_config.json           tokens of the longest text
    1_Pooling/config.json               how states become one
    config_sentence_transformers.json   how two embeddings are compared
"""

import transformers

from bert_pretrain import files
from bert_pretrain.model import heads, weights

_POOLING_FOLDER = "1_Pooling"
_MODES = {
    "cls": "pooling_mode_cls_token",
    "mean": "pooling_mode_mean_tokens",
    "max": "pooling_mode_max_tokens",
}


def write(
    bert: transformers.TFPreTrainedModel,
    pooling: heads.Pooling,
    max_seq_length: int,
    folder: str,
) -> None:
    """Writes all but the tokenizer (`tokenizer_files.write`).

    Args:
      bert: a `TFBertModel`; its pooler is written, but not used.
      pooling: see `heads.Pooling`.
      max_seq_length: tokens at which a text is cut.
      folder: local, and it exists.
    """
    # These names are read by all versions of sentence-transformers.
    parts = [("", "Transformer"), (_POOLING_FOLDER, "Pooling")]
    files.write_json(
        f"{folder}/modules.json",
        [
            {
                "idx": number,
                "name": str(number),
                "path": path,
                "type": f"sentence_transformers.models.{kind}",
            }
            for number, (path, kind) in enumerate(parts)
        ],
    )
    files.write_json(
        f"{folder}/{_POOLING_FOLDER}/config.json",
        {
            "word_embedding_dimension": bert.config.hidden_size,
            **{mode: name == pooling for name, mode in _MODES.items()},
        },
    )
    files.write_json(
        f"{folder}/sentence_bert_config.json",
        {"max_seq_length": max_seq_length, "do_lower_case": False},
    )
    files.write_json(
        f"{folder}/config_sentence_transformers.json",
        {"similarity_fn_name": "cosine"},
    )
    arrays = weights.arrays_of(bert.weights)
    weights.save_arrays(
        {name.removeprefix("bert."): array for name, array in arrays.items()},
        f"{folder}/{weights.FILE_NAME}",
    )
