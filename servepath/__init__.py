"""What every process of ServePath shares, and the one part that can be installed: `pip install 'servepath[client]'`."""

# Of the package (pyproject.toml reads it), of what servers say of themselves, and of the images.
VERSION = "0.2.0.dev0"
