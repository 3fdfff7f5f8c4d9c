"""Figures, the HTML page, and one configuration explained.

Import from the modules: `reading` and `page` for the report, `explain` for one configuration. Nothing is loaded here,
so that the command line starts at once.
"""
