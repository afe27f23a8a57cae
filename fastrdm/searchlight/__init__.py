"""Many small RDMs of overlapping channels: searchlights in space, movies over time, and both at once.

In come data (conditions, channels) and the channels of each centre; out go an RDM of each centre, or its similarity to
models, for which no RDMs are kept.
"""

__all__: list[str] = []
