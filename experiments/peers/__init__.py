"""Other methods of sparse training, to compare with in the same recipe."""
