"""What a pretrained model is taught to do: tasks, their files, their use."""
