"""Pieces that many families share: scaling, clipping, decay, noise, averages."""
