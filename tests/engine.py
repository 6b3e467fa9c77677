"""A second container engine, in a network and with mounts of its own."""

import ctypes
import os
import pathlib
import shutil
import signal
import subprocess

import lab
from lab import ENVIRONMENT, RUN, WORK, needs, needs_docker, needs_root, run, start, terminate, until

STUDENT = {"passwd": "x:4242:4242::/:/bin/sh", "group": "x:4242:", "subuid": "100000:65536", "subgid": "100000:65536"}
PODMAN = [("podman", "podman"), ("newuidmap", "uidmap")]
PODMAN_FLAGS = "--runroot /mnt/run --storage-driver overlay --cgroup-manager cgroupfs --events-backend file".split()
PODMAN_FLAGS += "system service --time=0".split()
DOCKERD_FLAGS = "--exec-root /mnt/run --pidfile /mnt/run/pid --iptables=false".split()
# Runs as the first process of the second engine's namespaces.
ENGINE = """set -e
ip link set lo up
mount -t tmpfs -o mode=755 none /mnt
mkdir /mnt/run /mnt/work
# crun starts no container if cgroup v1 and v2 share the controllers.
umount /sys/fs/cgroup/unified 2>/dev/null || true
# A user who isn't root must be able to read WORK, even if the project is in a closed folder such as /root.
if [ -n "$CLOSED" ]; then
    mount --bind "$WORK" /mnt/work
    mount -t tmpfs -o mode=755 none "$CLOSED"
    mkdir -p "$WORK"
    mount --move /mnt/work "$WORK"
fi
[ -z "$DISK" ] || mount -t tmpfs -o "size=$DISK" none "$FOLDER/data"
if [ -n "$STUDENT" ]; then
    for file in passwd group subuid subgid; do
        mount --bind "$FOLDER/etc/$file" "/etc/$file"
    done
    chown "$STUDENT" "$FOLDER" "$FOLDER/data" /mnt/run
    set -- setpriv --reuid "$STUDENT" --regid "$STUDENT" --clear-groups "$@"
fi
# This shell stays: only a process that doesn't change its user is killed with its parent.
"$@"
exit 1
"""


class Engine:
    """A second container engine, in a network and with mounts of its own, in which the lab's ports are free.

    `with Engine("name"):` moves this process into its network until the block ends. fetch(), subprocesses and
    Chromium then see that network, docker() talks to this engine, and require_image() loads images into it. Its
    processes end with this process, even if this one is killed."""

    def __init__(self, name, program="docker", disk=""):
        """program is docker, or podman without root. A disk, such as 100m, is in memory and has that size."""
        needs_root()
        for tool, package in {"docker": [("dockerd", "docker.io")], "podman": PODMAN}[program]:
            needs(tool, package)
        needs_docker()
        self.name, self.folder, self.loaded = name, WORK / f"engine-{name}", set()
        (self.folder / "data").mkdir(parents=True)
        (self.folder / "etc").mkdir()
        for file, line in STUDENT.items():
            before = pathlib.Path("/etc", file).read_text() if file in ("passwd", "group") else ""
            (self.folder / "etc" / file).write_text(f"{before}student:{line}\n")
        self.host, data = f"unix://{self.folder}/engine.sock", self.folder / "data"
        # Podman wants a short path for its state.
        command = {
            "docker": ["dockerd", "-H", self.host, "--data-root", data, *DOCKERD_FLAGS],
            "podman": ["podman", "--root", data, *PODMAN_FLAGS, self.host],
        }[program]
        closed = [str(folder) for folder in reversed(WORK.parents) if not folder.stat().st_mode & 1]
        env = {
            "PATH": ENVIRONMENT["PATH"], "MODELMOCK_RUN": RUN, "HOME": str(data), "XDG_RUNTIME_DIR": "/mnt/run",
            "WORK": str(WORK), "FOLDER": str(self.folder), "CLOSED": "".join(closed[:1]), "DISK": disk,
            "STUDENT": "4242" if program == "podman" else "",
        }
        spaces = "--net --mount --pid --fork --kill-child --mount-proc".split()
        with (self.folder / "log").open("wb") as log:
            words = ["unshare", *spaces, "sh", "-c", ENGINE, "sh", *command]
            self.process = start(*words, env=env, stdout=log, stderr=log)
        # An engine that starts accepts connections before it answers them.
        version = ["timeout", "5", "docker", "-H", self.host, "version"]
        try:
            until(60, "the second engine", lambda: not subprocess.run(version, capture_output=True).returncode)
        except AssertionError as error:
            terminate(self.process)
            raise AssertionError(f"{error}; its log:\n{(self.folder / 'log').read_text()}") from None
        # The first process of its namespaces.
        self.pid = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().strip()

    def load(self, name):
        """Copies an image of the first engine into this one."""
        if name not in self.loaded:
            with subprocess.Popen(["docker", "save", name], stdout=subprocess.PIPE) as save:
                run("docker", "-H", self.host, "load", stdin=save.stdout)
            assert save.returncode == 0, f"docker save {name} failed"
            self.loaded.add(name)

    def command(self, *command, **env):
        """The command as a list of words that runs it in the engine's network and with its mounts."""
        given = [f"{name}={value}" for name, value in {"DOCKER_HOST": self.host, **env}.items()]
        return ["nsenter", "--target", self.pid, "--net", "--mount", "env", *given, *command]

    def __enter__(self):
        assert not lab.joined_engine
        self.network = open("/proc/thread-self/ns/net")
        with open(f"/proc/{self.pid}/ns/net") as network:
            join(network)
        lab.joined_engine, self.environment = self, dict(ENVIRONMENT)
        ENVIRONMENT.pop("DOCKER_CONTEXT", None)
        ENVIRONMENT["DOCKER_HOST"] = self.host
        return self

    def __exit__(self, *_):
        with self.network:
            join(self.network)
        lab.joined_engine = None
        ENVIRONMENT.clear()
        ENVIRONMENT.update(self.environment)
        self.stop()

    def stop(self):
        # All processes of a namespace end with its first one.
        os.kill(int(self.pid), signal.SIGKILL)
        self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


def join(network):
    """Moves this thread, and the processes that it starts, into the network namespace."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(network.fileno(), 0x40000000):  # CLONE_NEWNET
        raise OSError(ctypes.get_errno(), "setns failed")
