"""The network: graphs, DefiNet, checkpoints, prediction, training and its data."""
