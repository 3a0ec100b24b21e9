"""What is wrong before money is spent.

doctor_config  the options of the doctor
check          the result of a check, and the frame of all checks
environment    versions, wheels, libtpu, variables
machine        TPU or workers, disk, memory
run_files      dataset, model directory, batch, time to fetch a batch
examination    all checks in their order
"""
