"""What stands for the service's models: descriptors of pictures, words and clips."""
