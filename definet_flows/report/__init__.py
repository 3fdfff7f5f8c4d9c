"""Figures, the HTML page, and explanations of single configurations.

Import from the modules: `reading` and `page` for the report, `explain` for a configuration. Nothing is loaded here,
so that the command line starts at once.
"""
