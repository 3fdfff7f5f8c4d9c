"""VASP's files, whole or damaged, plain or packed."""
