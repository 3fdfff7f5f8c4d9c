"""Relaxations that stopped or were made elsewhere: continued, rebuilt, ingested."""
