"""What was understood of the responses of a region."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ResponseFacts:
    """What was understood of a region's responses.

    Attributes
    ----------
    n_times : int
        Number of times; a unit's times are neighbours in the arrays.
    is_matched : bool
        Whether the rows were matched to the stimuli by labels; else they are in the order of the study.
    is_zscored : bool
        Whether responses were z-scored within sessions.
    n_sessions : tuple of int
        Number of sessions of each subject; zeros if they are not known.
    n_masked : tuple of int
        For each subject, the number of units that the mask leaves out.
    left_out : tuple of str
        Names of images that have rows but are not stimuli.
    """

    n_times: int = 1
    is_matched: bool = False
    is_zscored: bool = False
    n_sessions: tuple[int, ...] = ()
    n_masked: tuple[int, ...] = ()
    left_out: tuple[str, ...] = ()
