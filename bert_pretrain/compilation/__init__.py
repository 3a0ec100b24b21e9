"""A training step compiled for TPUs that are not there.

slices          the TPU slices that exist: chips and topology of each name
training_step   the trainer's step, lowered to HLO
peers           the steps of other implementations, lowered to HLO
isolation       calls a function in a process of its own
compiler        the TPU's own compiler, called in such a process
hlo_text        parses the text of a compiled program
traffic         bytes in main memory and in sums over replicas
"""
