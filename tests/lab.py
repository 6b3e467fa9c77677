"""What tests share: a copy of the lab with its own ports and Compose project, a second engine, and how to wait.

Nothing here touches the user's things: everything that a run starts carries RUN, in its environment, in the
name of its Compose project, or in a label.
"""

import base64
import contextlib
import ctypes
import functools
import http.client
import json
import os
import pathlib
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
RUN = os.environ.setdefault("MODELMOCK_RUN", f"modelmock-test-{os.getpid()}")
# Containers mount files from here: every engine can mount files of the project, but not of every other folder.
WORK = ROOT / "target" / RUN
LABEL = f"modelmock.tests={RUN}"
# The ports in the lab's files. A copy of the lab gets others, so that it doesn't disturb a stack of the user.
PORTS = [5000, 5001, 5002, 9090, 9093, 1025, 8025, 3000, 3100, 9095, 2020]
PORTS += [19090, 19091, 19092, 19101, 19102, 19103, 19291]
# Without the variables with which a user changes the scripts and their tools.
ENVIRONMENT = {
    name: value
    for name, value in os.environ.items()
    if not re.match("(COMPOSE|GRAFANA|MODELMOCK_FLAGS|CARGO_TARGET|CDPATH|PYTEST)|.*_proxy$", name, re.I)
} | {"MODELMOCK_RUN": RUN, "LC_ALL": "C.UTF-8"}
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class ImageMissing(pytest.skip.Exception):
    """A skip that isn't a failure in CI, as an image registry can't be reached from everywhere."""


def until(seconds, what, attempt):
    """Repeats the attempt until it returns something true, and returns that."""
    end = time.monotonic() + seconds
    while True:
        try:
            seen = last = attempt()
        except (OSError, ValueError, TypeError, http.client.HTTPException) as error:
            seen, last = None, error
        if seen:
            return seen
        assert time.monotonic() < end, f"{what}: not within {seconds} s; the last was {last!r}"
        time.sleep(0.25)


def fetch(url, data=None, *, method=None, password=None, timeout=10, **parameters):
    """The text at the URL, without a proxy. Data is sent as JSON, and a password as that of Grafana's admin."""
    if parameters:
        url += "?" + urllib.parse.urlencode(parameters, doseq=True)
    headers = {}
    if password:
        headers["Authorization"] = "Basic " + base64.b64encode(f"admin:{password}".encode()).decode()
    if data is not None:
        headers["Content-Type"] = "application/json"
        data = json.dumps(data).encode()
    request = urllib.request.Request(url, data, headers, method=method)
    with _opener.open(request, timeout=timeout) as answer:
        return answer.read().decode()


def fetch_json(*arguments, **named):
    return json.loads(fetch(*arguments, **named))


def vector(url, expression, **parameters):
    """The answer of the Prometheus at the URL: a list of (labels, value)."""
    answer = fetch_json(f"{url}/api/v1/query", query=expression, **parameters)["data"]["result"]
    return [(series["metric"], series.get("value", [0, series.get("values")])[1]) for series in answer]


def value(url, expression, **parameters):
    """The answer of the Prometheus at the URL as a number, or None if it isn't one value."""
    answer = vector(url, expression, **parameters)
    return float(answer[0][1]) if len(answer) == 1 else None


def names_what_is_there(root, texts):
    """Asserts that all links, pictures, files and headings that the texts name exist below the root."""
    for text in texts:
        written = text.read_text()
        for target in re.findall(r'\]\(([^)\s]+)\)|src="([^"]+)"', written):
            name, _, heading = "".join(target).partition("#")
            if ":" in name:
                continue
            file = text.parent / name if name else text
            assert file.exists(), f"{text} links to {name}"
            headings = re.findall(r"^#+ (.*)$", file.read_text(), re.M) if heading else []
            anchors = [re.sub(r"[^\w\- ]", "", each.lower()).strip().replace(" ", "-") for each in headings]
            assert not heading or heading in anchors, f"{text} links to {name}#{heading}"
        below_stack = r"(?:prometheus|alertmanager|loki|fluent-bit)/[\w./-]+\.yml"
        pattern = rf"(?<![\w/*.-])(?:{below_stack}|(?:scripts|stack|src|tests)/[\w./-]*\w(?![\w*/]))"
        for name in set(re.findall(pattern, written)):
            found = [folder for folder in (root, text.parent) if (folder / name).exists()]
            # up.sh makes these.
            assert found or name.startswith(("stack/.env", "stack/logs")), f"{text} names {name}"


def listens(port):
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


_reserved = []


def free_ports(count):
    """Ports below those that the system gives to clients. A UDP socket keeps each from other workers and runs."""
    ports = []
    while len(ports) < count:
        port, reservation = random.randrange(20000, 32768), socket.socket(type=socket.SOCK_DGRAM)
        with contextlib.suppress(OSError):
            reservation.bind(("127.0.0.1", port))
            if not listens(port):
                _reserved.append(reservation)
                ports.append(port)
    return ports


def run(*command, code=0, timeout=200, **named):
    """Runs the command and returns its output. Its exit code must be this one, or any if None."""
    named.setdefault("env", ENVIRONMENT)
    if "input" not in named:
        named.setdefault("stdin", subprocess.DEVNULL)
    command = [str(word) for word in command]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=timeout, **named)
    said = done.stdout.decode(errors="replace")
    assert code in (None, done.returncode), f"{command} ended with code {done.returncode}, not {code}:\n{said}"
    return said


def one_line(said):
    assert said.count("\n") == 1, f"it should be one line:\n{said}"


def without(folder, *tools):
    """The variables of a machine that lacks these tools: its PATH is the folder, with links to all other tools."""
    folder.mkdir()
    for there in reversed(ENVIRONMENT["PATH"].split(":")):
        # Of two tools with one name, the first in the PATH.
        run("sh", "-c", 'ln -sf "$0"/* "$1" 2>&1 || true', there, folder)
    for tool in tools:
        (folder / tool).unlink()
    return {"PATH": str(folder)}


def docker(*arguments, **named):
    return run("docker", *arguments, **named).strip()


def has_engine():
    return shutil.which("docker") and subprocess.run(["docker", "version"], capture_output=True).returncode == 0


@functools.cache
def needs_docker():
    if not has_engine():
        pytest.skip("Docker's engine isn't running: install Docker, or start its engine (README, section 1)")
    if subprocess.run(["docker", "compose", "version"], capture_output=True).returncode:
        pytest.skip("docker compose is missing: install the package docker-compose-plugin")


@functools.cache
def pulled(name):
    """The full name of the image, and whether the first engine has it or can pull it."""
    needs_docker()
    files = "\n".join(file.read_text() for file in sorted(ROOT.glob("stack/**/*.yaml")))
    full = re.search(rf"^ *image: *({name}:\S+)", files, re.M)[1]
    for words in (["image", "inspect"], ["pull", "-q"]):
        with contextlib.suppress(subprocess.TimeoutExpired):
            if not subprocess.run(["docker", *words, full], capture_output=True, timeout=240).returncode:
                return full, True
    return full, False


def image(name):
    """The full name of an image in the Compose files, such as prom/prometheus. Skips if it can't be pulled.

    The engine that this process has joined gets the image, too."""
    full, is_here = pulled(name)
    if not is_here:
        raise ImageMissing(f"the image {full} can't be pulled here: run docker pull {full}")
    if Engine.joined:
        Engine.joined.load(full)
    return full


def has_image(name):
    return pulled(name)[1]


def needs(tool, package):
    if not shutil.which(tool):
        pytest.skip(f"{tool} is missing: install the package {package}")


def needs_root():
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("only root can do this, and only on Linux: run sudo -E scripts/test.sh")


def start(*command, **named):
    """Starts the command in the background. The caller ends it; on Linux it also ends with this process."""
    named.setdefault("env", ENVIRONMENT)
    named.setdefault("stdin", subprocess.DEVNULL)
    if setpriv := shutil.which("setpriv"):
        command = [setpriv, "--pdeathsig", "KILL", *command]
    return subprocess.Popen([str(word) for word in command], start_new_session=True, **named)


def end(process, seconds=10):
    process.terminate()
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@functools.cache
def modelmock():
    """The exporter, built as in the README, wherever cargo writes it."""
    said = run("cargo", "build", "--release", "--locked", "--quiet", "--message-format=json", cwd=ROOT, timeout=600)
    built = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    return pathlib.Path([message["executable"] for message in built if message.get("executable")][-1])


class Model:
    """The exporter on a port. If it is started again, the new process replaces the old one."""

    def __init__(self, port):
        self.port, self.process = port, None
        self.address = f"localhost:{port}"

    def start(self, *arguments):
        self.stop()
        command = [modelmock(), "--listen", f"127.0.0.1:{self.port}", "--quiet", *arguments]
        self.process = start(*command, stdout=subprocess.PIPE, text=True)
        # Its first line says that it listens. If another program has the port, it ends without that line.
        with self.process.stdout as lines:
            assert f":{self.port}/metrics" in lines.readline(), f"the model doesn't start on port {self.port}"
        return self

    def stop(self):
        if self.process:
            end(self.process)
            self.process = None


class Lab:
    """A copy of the lab, with ports and a Compose project of its own, and a model on its port 5000."""

    def __init__(self, name, folder="the lab ü", own_ports=True):
        # The same tests may run on another engine, too.
        name = f"{Engine.joined.name}-{name}" if Engine.joined else name
        self.project = f"{RUN}-{name}"
        self.work = WORK / name
        self.root = self.work / folder
        self.stack = self.root / "stack"
        self.ports = dict(zip(PORTS, free_ports(len(PORTS)) if own_ports else PORTS))
        self.env = ENVIRONMENT | {"COMPOSE_PROJECT_NAME": self.project}
        self.copy()
        self.model = Model(self.ports[5000])
        self.prometheus, self.alertmanager, self.mailpit, self.grafana, self.store = (
            f"http://localhost:{self.ports[port]}" for port in (9090, 9093, 8025, 3000, 19090)
        )

    def copy(self):
        """The files that a user gets, with the ports of this lab."""
        root = self.root
        left_out = shutil.ignore_patterns(".env*", "__pycache__", "logs")
        for folder in ("scripts", "stack", "src", "tests"):
            shutil.copytree(ROOT / folder, root / folder, ignore=left_out)
        for file in ("README.md", "Cargo.toml", "Cargo.lock"):
            shutil.copy(ROOT / file, root)
        (root / "target/release").mkdir(parents=True)
        (root / "target/release/modelmock").symlink_to(modelmock())
        for file in [*root.glob("scripts/*"), *root.glob("stack/**/*.*")]:
            if file.suffix in (".sh", ".yml", ".yaml", ".json", ".md"):
                edit(file, r"(?<![\w.=])\d{4,5}(?!\w)", lambda found: str(self.ports.get(int(found[0]), found[0])))
        # With any umask.
        self.work.chmod(0o755)
        run("chmod", "-R", "a+rX", root)

    def run(self, script, *arguments, code=0, env=None, **named):
        """Runs one of the lab's scripts, such as up, and returns its output."""
        command = self.root / f"scripts/{script}.sh"
        return run(command, *arguments, code=code, env=self.env | (env or {}), cwd=self.root, **named)

    def up(self, *services):
        """Starts the stack, or these services of it, and a model whose result is 0.5."""
        for service in services:
            image(f".*/{service}")
        if not self.model.process:
            self.model.start("--value", "0.5")
        return self.run("up", *services)

    def remove(self):
        self.model.stop()
        remove(self.project)

    def container(self, service, project=""):
        labels = [f"project={self.project}{project}", f"service={service}"]
        filters = [word for label in labels for word in ("--filter", f"label=com.docker.compose.{label}")]
        return docker("ps", "-aq", *filters)

    def ask(self, expression):
        return value(self.prometheus, expression)

    def mails(self, beginning=""):
        """The subjects of the mails that begin like this, the latest first."""
        messages = fetch_json(f"{self.mailpit}/api/v1/messages?limit=500")["messages"]
        return [message["Subject"] for message in messages if message["Subject"].startswith(beginning)]

    def quiet(self):
        """Starts a model whose result is 0.5, and waits until no alert is active and its mails are sent."""
        self.model.start("--value", "0.5")
        alerts = f"{self.prometheus}/api/v1/alerts"
        until(90, "no alert", lambda: not fetch_json(alerts)["data"]["alerts"] and self.ask("up") == 1)
        # Prometheus repeats an end after a minute, so only the latest mail counts.
        latest = lambda: [subject for subject in self.mails() if "ModelResultHigh" in subject][:1]
        until(90, "the mail of the end", lambda: "FIRING" not in str(latest()))

    def password(self):
        return (self.stack / ".env").read_text().removeprefix("GRAFANA_PASSWORD=").strip()


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
    Chromium then see that network, docker() talks to this engine, and image() loads images into it. Its
    processes end with this process, even if this one is killed."""

    joined = None

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
            end(self.process)
            raise AssertionError(f"{error}; its log:\n{(self.folder / 'log').read_text()}") from None
        # The first process of its namespaces.
        self.pid = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().strip()

    def load(self, name):
        """Copies an image of the first engine into this one."""
        if name not in self.loaded:
            with subprocess.Popen(["docker", "save", name], stdout=subprocess.PIPE) as save:
                run("docker", "-H", self.host, "load", stdin=save.stdout, timeout=300)
            assert save.returncode == 0, f"docker save {name} failed"
            self.loaded.add(name)

    def command(self, *command, **env):
        """The command as a list of words that runs it in the engine's network and with its mounts."""
        given = [f"{name}={value}" for name, value in {"DOCKER_HOST": self.host, **env}.items()]
        return ["nsenter", "--target", self.pid, "--net", "--mount", "env", *given, *command]

    def __enter__(self):
        assert not Engine.joined
        self.network = open("/proc/thread-self/ns/net")
        with open(f"/proc/{self.pid}/ns/net") as network:
            join(network)
        Engine.joined, self.environment = self, dict(ENVIRONMENT)
        ENVIRONMENT.pop("DOCKER_CONTEXT", None)
        ENVIRONMENT["DOCKER_HOST"] = self.host
        return self

    def __exit__(self, *_):
        with self.network:
            join(self.network)
        Engine.joined = None
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


def edit(file, pattern, new):
    """Replaces a file, as many editors do, with each match of the pattern changed."""
    before = file.read_text(encoding="utf-8")
    put(file, re.sub(pattern, new, before, flags=re.M))


def put(file, text):
    new = file.with_name(file.name + ".new")
    new.write_bytes(text.encode())
    new.chmod(file.stat().st_mode if file.exists() else 0o644)
    new.replace(file)


def remove(project):
    """Removes containers, volumes, networks and images of the tests' Compose projects that begin like this."""
    assert project.startswith("modelmock-test-")
    kinds = {"container": ["ps", "-a"], "volume": ["volume", "ls"], "network": ["network", "ls"]}
    for kind, listing in kinds.items():
        name = "{{.Name}}" if kind == "volume" else "{{.ID}}"
        form = name + '|{{.Label "com.docker.compose.project"}}|{{.Label "modelmock.tests"}}'
        lines = [line.split("|") for line in docker(*listing, "--format", form).splitlines()]
        mine = [name for name, of, run in lines if f"{of}-".startswith(f"{project}-") or run == project]
        if mine:
            docker(kind, "rm", "-f", *(["-v"] if kind == "container" else []), *mine, code=None)
    filters = [word for name in (project, f"{project}-*") for word in ("--filter", f"reference={name}")]
    if images := docker("image", "ls", *filters, "--format", "{{.Repository}}:{{.Tag}}").split():
        docker("image", "rm", *images, code=None)
