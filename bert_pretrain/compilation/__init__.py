"""Compiles a training step for TPUs that are not there, and tells its cost.

slices          the TPU slices that exist: chips and topology of each name
training_step   the trainer's step, lowered to HLO
peers           the steps of other implementations, lowered to HLO
isolation       calls a function in a process of its own
compiler        the TPU's own compiler, called in such a process
hlo_text        parses the text of a compiled program
traffic         bytes in main memory and in sums over replicas
roofline        a lower bound of the time of a step
assessment      memory, work and time of one step
batch_search    the largest batch that fits
step_setup      one step of a run: lowers it, assesses it, searches its batch
findings        the results for all steps of a run, as plain values
findings_table  the same results as tables
"""
