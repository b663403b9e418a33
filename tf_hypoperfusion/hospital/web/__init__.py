"""The page to drop files on, with the worklist of all studies in the spool."""
