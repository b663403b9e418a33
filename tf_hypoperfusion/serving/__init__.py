"""Trained networks -> a SavedModel with the clinical rules in its graph, and a server for it."""
