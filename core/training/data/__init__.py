"""What is trained on: examples, buckets, the order of the images, encoded once."""
