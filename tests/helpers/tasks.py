"""Small tasks that a tiny model learns in seconds, and what it begins with."""

import json
import random

import tf_keras
import transformers

from bert_pretrain import command_line, files
from bert_pretrain.data import vocabulary
from bert_pretrain.finetuning import finetune_config
from bert_pretrain.interchange import tokenizer_files
from bert_pretrain.model import bert_model, config_json, weights

GOOD = "good fine great nice sweet".split()
BAD = "bad poor dull weak sour".split()
NAMES = "ann bob eve tom sue".split()
OTHERS = "the a film was seen by it and they told of".split()
VOCAB = vocabulary.Vocabulary(
    (
        *vocabulary.SPECIAL_TOKENS,
        *GOOD,
        *BAD,
        *NAMES,
        *OTHERS,
        *"who ? . ##s ##ing x".split(),
    ),
    is_lower_case=True,
)


def write_model(folder, vocab=VOCAB, **config):
    """A tiny BERT with a head for masked words, as an export has it."""
    fields = {
        "vocab_size": vocab.size,
        "hidden_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "max_position_embeddings": 48,
        "architectures": ["BertForMaskedLM"],
        **config,
    }
    # So that what is learned does not depend on the run of the test.
    tf_keras.utils.set_random_seed(1)
    bert = bert_model.from_config(transformers.BertConfig(**fields))
    files.make_directory(str(folder))
    num_positions = bert.config.max_position_embeddings
    tokenizer_files.write(vocab, num_positions, str(folder))
    weights.save(bert, f"{folder}/{weights.FILE_NAME}")
    files.write_json(f"{folder}/{config_json.NAME}", bert.config.to_dict())
    return str(folder)


def sentence(generator, words, length=8):
    """A text with one of the words among others."""
    text = generator.choices(OTHERS, k=generator.randint(2, length))
    text.insert(generator.randrange(len(text)), generator.choice(words))
    return " ".join(text)


def write_texts(path, num_examples=60, seed=1):
    """Texts that are good or bad, which one word tells."""
    generator = random.Random(seed)
    lines = ["text\tlabel\tscore\tother\tsimilarity"]
    for number in range(num_examples):
        is_good = number % 2 == 1
        is_other_good = generator.random() < 0.5
        values = [
            sentence(generator, GOOD if is_good else BAD),
            "good" if is_good else "bad",
            150 if is_good else 100,
            sentence(generator, GOOD if is_other_good else BAD),
            int(is_good == is_other_good),
        ]
        lines.append("\t".join(map(str, values)))
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def write_late_texts(path, num_examples, seed):
    """Long texts whose last word tells whether they are good or bad."""
    generator = random.Random(seed)
    lines = ["text\tlabel"]
    for number in range(num_examples):
        words, label = ((GOOD, "good"), (BAD, "bad"))[number % 2]
        text = [*generator.choices(OTHERS, k=40), generator.choice(words)]
        lines.append(f"{' '.join(text)}\t{label}")
    files.write_text(path, "\n".join(lines) + "\n")


def write_tags(path, num_examples=60, seed=1):
    """Sentences with names, in CoNLL's columns."""
    generator = random.Random(seed)
    lines = []
    for _ in range(num_examples):
        for word in sentence(generator, NAMES).split():
            lines.append(f"{word} {'B-PER' if word in NAMES else 'O'}")
        lines.append("")
    path.write_text("\n".join(lines))
    return str(path)


def write_questions(path, num_examples=60, seed=1):
    """Questions for the name in a context, in SQuAD's JSON."""
    generator = random.Random(seed)
    paragraphs = []
    for number in range(num_examples):
        context = sentence(generator, NAMES, 20)
        name = next(word for word in context.split() if word in NAMES)
        start = f" {context} ".index(f" {name} ")
        paragraphs.append(
            {
                "context": context,
                "qas": [
                    {
                        "id": str(number),
                        "question": "who was seen ?",
                        "answers": [{"text": name, "answer_start": start}],
                    }
                ],
            }
        )
    path.write_text(json.dumps({"data": [{"paragraphs": paragraphs}]}))
    return str(path)


WRITERS = {
    "tagging": (write_tags, "conll"),
    "question_answering": (write_questions, "json"),
}


def config_of(folder, task="classification", *flags, num_examples=60):
    """Options of a short fine-tuning in a folder, whose files are written."""
    write, ending = WRITERS.get(task, (write_texts, "tsv"))
    for name, seed in (("train", 1), ("dev", 2)):
        write(folder / f"{name}.{ending}", num_examples, seed)
    if not (folder / "model").exists():
        write_model(folder / "model")
    return command_line.parse(
        finetune_config.FinetuneConfig,
        [
            f"--task={task}",
            f"--init_from={folder}/model",
            f"--train_file={folder}/train.{ending}",
            f"--dev_file={folder}/dev.{ending}",
            f"--output_dir={folder}/out",
            "--max_seq_length=32",
            "--peak_learning_rate=1e-2",
            "--num_epochs=6",
            "--global_batch_size=16",
            *flags,
        ],
    )
