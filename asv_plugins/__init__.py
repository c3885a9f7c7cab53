"""Plugins of airspeed velocity, named in ``asv.conf.json``.

To a hook, and to each command of ``git rebase -x``, git exports which repository it works on. What
this package and asv run means the one of its folder: importing it forgets those variables.
"""

import os
import subprocess


def forget_exported_repository() -> None:
    """Unset ``GIT_DIR`` and all that ties git's commands to one repository, see githooks(5)."""
    command = ["git", "rev-parse", "--local-env-vars"]
    try:
        names = subprocess.run(command, capture_output=True, text=True).stdout.split()
    except OSError:
        # No git: nothing to mislead.
        return
    for name in names:
        # The user's own settings, such as a container's safe.directory: no hook gets these.
        if name != "GIT_CONFIG_COUNT":
            os.environ.pop(name, None)


forget_exported_repository()
