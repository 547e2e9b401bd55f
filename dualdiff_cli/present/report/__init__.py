"""The report: one HTML page of a run or of a comparison, which needs no other file and no network."""
