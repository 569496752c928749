"""What drawing with a compiled model has in common, whatever tells it what to draw: the model, the noise, the file of pictures."""
