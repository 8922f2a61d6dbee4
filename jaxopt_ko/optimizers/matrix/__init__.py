"""What the optimizers of matrices share: roles of leaves, axes, the rest of a tree."""
