"""Print one of the README's two commands: `run` or `tests`."""

import re
import sys
from pathlib import Path

TEXT = (Path(__file__).parents[1] / "README.md").read_text()
print(re.search(rf"<!-- {sys.argv[1]} -->\n```bash\n(.*?)\n```", TEXT, re.DOTALL)[1])  # noqa: T201
