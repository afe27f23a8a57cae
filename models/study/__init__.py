"""The replication study, and a small version of it.

Read `replicate` first: pretrained weights → best layers, submissions, figures and the published table. `candidates`
scores networks and checkpoints by sweeps into one store, `network_scores` chooses their best layers, `comparison`
compares these with the published ones, `tables` and `figures` show them. `miniature` trains and scores on small images,
at several sizes. `keep` keeps the RDMs of checkpoints and pretrained networks in small files, `kept` reads them.
`demo` is the shortest way to a picture.
"""
