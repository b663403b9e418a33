"""Strokes painted into heads: simulated heads stand in for real ones, which are used if they are here."""
