"""How a command runs: flags, messages, whole files, processes. Nothing here knows images."""
