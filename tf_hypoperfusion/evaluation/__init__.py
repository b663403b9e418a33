"""Trained folds and their test patients -> one table, statistics, the paper's report."""
