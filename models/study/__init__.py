"""The replication study, and a small version of it.

Read `replicate` first: pretrained weights → best layers, submissions, figures and the published table. `candidates`
scores networks and checkpoints by sweeps into one store, `network_scores` chooses their best layers, `comparison`
compares these with the published ones, `tables` and `figures` show them. `miniature` trains and scores on small images,
at several sizes. `demo` is the shortest way to a picture.

RDMs of trained networks are kept, so that results are made again without training. `keep` makes the files, `kept` reads
them, `checkpoints` scores them and groups seeds, `run_facts` says how the networks were trained, and `results` writes
the report, into which other modules put sections. `claim` is the section on the paper's claim,
`submissions` that on what is submitted by the `rules`.
"""
