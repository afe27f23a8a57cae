"""The replication study, and a small version of it.

Read `replicate` first: pretrained weights → best layers, submissions, figures and the published table. `jobs` opens and
scores networks and checkpoints, `network_scores` holds their scores, `comparison` compares these with the published
ones, `tables` and `figures` show them. `miniature` trains and scores on small images, at several `sizes`. `demo` is the
shortest way to a picture.
"""
