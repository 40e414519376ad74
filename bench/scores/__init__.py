"""From outcomes to scores, intervals, flags and transfer rates."""
