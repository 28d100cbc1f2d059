"""What do measured times say of other sizes and other devices? Lattices that never fall, and who lent their points."""
