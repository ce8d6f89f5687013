"""Other methods of sparse training, to compare with in the same recipe."""

# steps between two changes of a mask, RigL's; by default everybody's
INTERVAL = 100
