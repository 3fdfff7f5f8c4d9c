"""Stand-ins for what a user has: a database server, a queue, an engine, a crystal with its network, measured costs.

The campaign under real DFT, whose records are kept in the repository, lies here too. A module lies here if both tests
and benchmarks need it. Modules import the package, and neither pytest, tests nor benchmarks. They are no part of the
wheel: an editable install finds them.
"""
