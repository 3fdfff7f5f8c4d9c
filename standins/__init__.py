"""Stand-ins for what a user has: a database server, a queue, an engine, a crystal with its network, measured costs.

The campaign under real DFT, whose records are kept in the repository, lies here too. Here lies what tests and benchmarks both need, and nothing that only tests or only benchmarks use. Modules import the
package, and neither pytest, tests nor benchmarks. They are no part of the wheel: an editable install finds them.
"""
