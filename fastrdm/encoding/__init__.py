"""Gram matrices × responses → how well a layer predicts each unit.

In come Gram matrices of layers and the responses of measured units; out go predictions of held-out conditions and their
correlations with the responses, by ridge regression or partial least squares.
"""

__all__: list[str] = []
