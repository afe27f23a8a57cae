"""The replication study, and all of it in small.

Read `replicate` first: pretrained weights → best layers, submissions, figures and the published table. `network_scores`
scores a network's RDMs, `comparison` sets them beside what was published, `figures` draws. `miniature` trains and
scores on small images, at the `sizes` that they are shown at; `demo` is the shortest way to a picture.
"""
