"""Writes a trained model as a HuggingFace checkpoint.

python -m bert_pretrain.export --model_dir=model --output_dir=export
"""

from bert_pretrain import command_line
from bert_pretrain.interchange import export_config


def main(config: export_config.ExportConfig) -> None:
    """Exports a model and lists the files."""
    # Imported late: --help and a wrong flag do not wait for TensorFlow.
    from bert_pretrain import files
    from bert_pretrain.interchange import exporting
    from bert_pretrain.telemetry import console

    console.quiet_libraries()
    model = exporting.export(config)
    architecture = "".join(model.bert.config.architectures or ())
    print(
        f"Exported step {model.step:,} of {config.model_dir} as a "
        f"{architecture} to {config.output_dir}:"
    )
    for name in files.list_finished(config.output_dir):
        print(f"  {name}")
    print(
        "With PyTorch: transformers.AutoModelForMaskedLM.from_pretrained("
        f"{config.output_dir!r})"
    )
    if config.tensorflow_weights:
        print(
            "With TensorFlow: transformers.TFAutoModelForMaskedLM."
            f"from_pretrained({config.output_dir!r}, use_safetensors=False)"
        )


if __name__ == "__main__":
    command_line.run(main, export_config.ExportConfig)
