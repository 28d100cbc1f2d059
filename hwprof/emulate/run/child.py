"""The process in which a script runs as one rank: reads what is asked of it, leaves a recording."""

from __future__ import annotations

import json
import os
import pickle
import sys
from pathlib import Path

from hwprof.emulate.believed import Believed
from hwprof.emulate.run.script import program, record


def main() -> None:
    """``python -m hwprof.emulate.run.child FOLDER``: ``asked.json`` in, ``recording.pickle`` out.

    What the script prints goes to standard error, as standard output belongs to the answer.
    """
    folder = Path(sys.argv[1])
    asked = json.loads((folder / "asked.json").read_text(encoding="utf-8"))
    os.dup2(2, 1)
    believed = Believed(**asked["believed"] | {"capability": tuple(asked["believed"]["capability"])})
    found = record(
        asked["rank"],
        believed,
        program(asked["words"]),
        asked["steps"],
        Path(asked["mail"]),
        history=asked["history"],
    )
    with (folder / "recording.pickle").open("wb") as file:
        pickle.dump(found, file, protocol=pickle.HIGHEST_PROTOCOL)
    sys.stdout.flush()
    os._exit(0)  # threads of the script are not waited for


if __name__ == "__main__":
    main()
