"""High-throughput point-defect workflows: enumerate, pre-relax, relax, record, retrain."""
