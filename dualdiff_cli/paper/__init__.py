"""The paper: the published values, the experiments that reproduce them, and the tables and figures of both."""
