"""What every process of ServePath shares, and the part that can be installed: `pip install '.[client]'` in a clone."""
