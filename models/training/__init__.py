"""Training of the study's networks, from class folders to checkpoints.

Read `train` first: a run, which resumes to the bit. `recipe` has the paper's settings, `network` builds and checks what
is trained, `trainer` trains it step by step on one of the `devices`. Images come through `data` (decoded once),
`batches` (on the device) and `augment`. `run` is the folder of a run, `signals` stop it, `report` prints. `scoring`
scores checkpoints during training; `curve` draws their scores, and `score_table` prints them.
"""
