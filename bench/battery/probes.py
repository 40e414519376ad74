"""Two sections of a battery's YAML: what a victim is asked that it cannot know, to see whether it knows the battery."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from ...attacks.spec import AtLeastOne, Strict

Part = Annotated[float, Field(ge=0, le=1)]


class Variants(Strict):
    """`variants`: evaluation images changed so mildly that nobody would call them another class, and how much of its
    accuracy an honest victim may lose on them.

    Each strength is the most; each image gets between half of it and all of it, to either side. Shift and turn
    interpolate between pixels and repeat the border. Brightness and contrast leave black black, as detectors of what
    no data have would otherwise tell them from images by their ground alone.
    """

    images: AtLeastOne = 200
    """Evaluation images that are changed, and as many others of the data set, at most."""
    shift: Annotated[float, Field(gt=0, le=8)] = 0.5
    """Pixels, along both axes."""
    turn: Annotated[float, Field(gt=0, le=45)] = 10
    """Degrees about the centre."""
    brightness: Annotated[float, Field(gt=0, le=2)] = 0.3
    """Pixel values are raised to a power: 2 to this, or its inverse."""
    contrast: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """By so much of itself the distance of a pixel from the image's darkest shrinks."""
    tolerated_others: Part = 0.1
    """How much better, as a share, a victim may do on the evaluation images than on others of the data set."""
    tolerated: Part = 0.2
    """The same for the variants of all kinds together."""


class Nonsense(Strict):
    """`nonsense`: images of nothing that no attack makes (bench/honesty/nonsense.py)."""

    each: AtLeastOne = 50
    """Images of every kind."""
    tolerated: Part = 0.3
    """How many more of them, as a share, a victim may accept than of what the attacks begin with."""
