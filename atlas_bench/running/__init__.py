"""What `atlas-bench run` does: plan the cells, stream the contexts, ask, record."""
