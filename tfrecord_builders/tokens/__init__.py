"""Documents to tokens: sentences, words, WordPiece."""
