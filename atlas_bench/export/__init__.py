"""Records as folders to publish: a Hugging Face dataset, BABILong's results."""
