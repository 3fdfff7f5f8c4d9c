"""A relaxation by VASP: its executions, attempts, restarts and charge."""
