"""What is sold: the public models, their sizes, prices and verification. Imports nothing of ours."""
