"""The files of HuggingFace's tokenizer, for texts as the records have them."""

import transformers

from bert_pretrain.data import vocabulary


def write(vocab: vocabulary.Vocabulary, max_tokens: int, folder: str) -> None:
    """Writes vocab.txt, tokenizer.json and the tokenizer's config.

    Args:
      max_tokens: tokens of the longest text that the model takes.
      folder: local.
    """
    path = f"{folder}/{vocabulary.FILE_NAME}"
    vocab.write(path)
    transformers.BertTokenizerFast(
        vocab_file=path,
        do_lower_case=vocab.is_lower_case,
        strip_accents=vocab.strips_accents,
        model_max_length=max_tokens,
    ).save_pretrained(folder)
