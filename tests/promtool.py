"""The tools that read the files of Prometheus and Alertmanager, each in its image."""

import functools
import subprocess

from lab import LABEL, ROOT, require_image, run


def tool(name, command, *arguments, folder=ROOT / "stack", **named):
    """Runs the command of an image in the folder."""
    options = ["--rm", "-i", "--label", LABEL, "--network", "none", "--user", "0"]
    options += ["-v", f"{folder}:/stack:ro", "-w", "/stack", "--entrypoint", f"/bin/{command}"]
    # Docker may put a line of one stream into a long line of the other one.
    return run("docker", "run", *options, require_image(name), *arguments, stderr=subprocess.PIPE, **named)


promtool = functools.partial(tool, "prom/prometheus", "promtool")
amtool = functools.partial(tool, "prom/alertmanager", "amtool")
