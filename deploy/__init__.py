"""ServePath in containers: the engine that runs them, the images, what is in them."""
