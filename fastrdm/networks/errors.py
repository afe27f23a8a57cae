"""The error of weight files."""


class WeightsError(ValueError):
    """A weight file cannot be read, or does not fit the network; the message names the file."""
