"""Questions answered by training: a script each, its records in results/, its answer in docs/."""
