"""What a TPU would be given, had and checked without a TPU.

absent_tpu      a real TPUStrategy over TPUs that are not there
device_program  what it would send to the TPUs: cut out, and lowered to HLO
bridge          TensorFlow's own TPU bridge, and what it must show
execution       a device's program, executed by XLA on CPUs
rehearsal       a run whose every device program is executed so
"""
