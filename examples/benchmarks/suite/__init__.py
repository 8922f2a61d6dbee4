"""Optimizers compared: the same tuning for all, and statistics that say what is settled."""
