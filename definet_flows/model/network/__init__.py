"""The network: DefiNet's layers, its edges, and their kernels."""
