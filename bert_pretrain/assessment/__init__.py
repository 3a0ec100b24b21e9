"""What a compiled step costs: memory, time, money.

check_config    the options of the compile check
checking        the check of all steps of a training
step_setup      one step of a run: lowers it, assesses it, searches its batch
assessment      memory, work and time of one step
roofline        a lower bound of the time of a step
batch_search    the largest batch that fits
findings        the results for all steps of a run, as plain values
findings_table  the same results as tables
"""
