"""Where a relaxation begins, and the gate that judges it."""
