"""Relaxation of a defect cell with VASP."""
