"""Fine-tuning: a pretrained model learns a task, and is used for it."""
