"""One question to an endpoint, and its answer as it comes."""
