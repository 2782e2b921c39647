"""Times of the recurrent layers against torch.nn and other implementations."""
