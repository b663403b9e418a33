"""A node of a hospital's network: studies come in, results go back; all state is on disk."""
