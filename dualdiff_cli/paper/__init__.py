"""The paper: its values, rows, cells and grid, tables and figures."""
