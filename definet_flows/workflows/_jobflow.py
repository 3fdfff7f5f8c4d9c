"""Imported before jobflow, which reads its settings when it is imported: what is wrong with them ends in one line.

Only here may a message be made of that: errors of YAML, of pydantic or of the file system may quote a password.
"""

from __future__ import annotations

import os

from definet_flows.errors import InputError

try:
    import jobflow  # noqa: F401
except ImportError:
    raise
except Exception as _error:  # noqa: BLE001 - YAML's, pydantic's, the file system's; they may quote a password
    _named = next((value for name, value in os.environ.items() if name.upper() == "JOBFLOW_CONFIG_FILE"), None)
    _file = "~/.jobflow.yaml" if _named is None else f"JOBFLOW_CONFIG_FILE={_named}"
    _msg = f"jobflow's settings, {_file}, cannot be used ({type(_error).__name__}): mend the file or name another"
    raise InputError(_msg) from None
