"""Pretraining BERT with TensorFlow and Keras on TPU, GPU and CPU.

Loads nothing, so that a builder's worker, which needs the record format
alone, stays light. It only sets what has to be set before TensorFlow is
first imported.
"""

import os

# transformers and tf-models-official are written for Keras 2.
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
# TensorFlow's C++ side logs errors such as the lack of a GPU on every start;
# what matters reaches Python as an exception. Set it to 0 to see them all.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
