"""Checks of the programs for TPUs, on a machine that has no TPU.

absent_tpu      a real TPUStrategy for TPUs that are not there
device_program  the program for one TPU: cut out of a graph, lowered to HLO
bridge          TensorFlow's own TPU bridge, and checks of its result
execution       runs a TPU's program with XLA on CPUs
rehearsal       a whole run in which every TPU program is executed this way
stablehlo       HLO in the form that jax's compilers read
"""
