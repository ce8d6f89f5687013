"""Other methods of sparse training, to compare with in the same recipe."""

INTERVAL = 100
"""Steps between two changes of a mask, RigL's; by default everybody's."""
