"""Records of what was measured, one for each cell: kept on disk, scored, and shown as reports."""
