"""What every process of ServePath shares, and the part that can be installed: `pip install '.[client]'` in a clone."""

# Of the package (pyproject.toml reads it), of what servers say of themselves, and of the images.
VERSION = "0.2.0.dev0"
