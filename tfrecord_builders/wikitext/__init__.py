"""The markup of Wikipedia's articles, and the text in it."""
