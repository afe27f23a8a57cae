"""How the study's networks are trained, from class folders to checkpoints.

Read `train` first: a run, resumed to the bit. `recipe` has the paper's numbers, `trainer` a network step by step.
Images come by `data` (decoded once), `batches` (on the device) and `augment`; `run` keeps the folder of a run,
`signals` ends it in order, `report` prints. `scoring` scores checkpoints while training goes on, and `curve` draws
that.
"""
