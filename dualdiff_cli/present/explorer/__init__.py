"""The explorer: a static page that shows points on their way from noise to data, in ``static/``, and its data file."""
