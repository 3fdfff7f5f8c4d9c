"""What a network is shown: pairs of structures, neighbour graphs, batches."""
