"""A campaign in a queue: missing work, progress, repair after killed workers."""
