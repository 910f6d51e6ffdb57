"""Building the images of deploy/images."""
