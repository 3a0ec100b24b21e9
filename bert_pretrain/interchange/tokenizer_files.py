"""HuggingFace's tokenizer for texts as the records have them, and its files."""

import tokenizers
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


def tokenizer(
    vocab: vocabulary.Vocabulary,
) -> tokenizers.BertWordPieceTokenizer:
    """The tokenizer itself, which tells where each token is in its text."""
    return tokenizers.BertWordPieceTokenizer(
        {token: i for i, token in enumerate(vocab.tokens)},
        lowercase=vocab.is_lower_case,
        strip_accents=vocab.strips_accents,
    )
