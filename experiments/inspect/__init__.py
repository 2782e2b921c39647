"""What is done with a trained network: pictures of its inside, samples, and an export with a model card."""
