"""From text to token ids: sentences, words, WordPiece."""
