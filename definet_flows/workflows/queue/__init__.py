"""A campaign in a queue: what is missing, where it stands, what killed workers left."""
