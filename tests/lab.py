"""What the tests share: a copy of the lab with ports and a Compose project of its own, and how to wait.

Nothing here names what is the user's: what a run starts carries RUN, by its environment, by the name
of its Compose project, or by a label.
"""

import base64
import contextlib
import ctypes
import functools
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
RUN = os.environ.setdefault("MODELMOCK_RUN", f"modelmock-test-{os.getpid()}")
# Containers mount files from here, and only what lies in the project is shared with every engine.
WORK = ROOT / "target" / RUN
LABEL = f"modelmock.tests={RUN}"
# Each port of the lab, as it stands in its files; a copy has others, so it meets no stack of the user.
PORTS = [5000, 5001, 5002, 9090, 9093, 1025, 8025, 3000, 19090, 19091, 19092, 19101, 19102, 19103, 19291, 3100, 9095, 2020]
# What a user may have set is none of the tests'.
ENVIRONMENT = {
    name: value
    for name, value in os.environ.items()
    if not re.match("(COMPOSE|GRAFANA|MODELMOCK_FLAGS|CARGO_TARGET|CDPATH|PYTEST)|.*_proxy$", name, re.I)
} | {"MODELMOCK_RUN": RUN, "LC_ALL": "C.UTF-8"}
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class ImageMissing(pytest.skip.Exception):
    """A skip that even CI may have: not everywhere is an image registry."""


def until(seconds, what, attempt):
    """What the attempt gives once it gives something; nobody, or with nothing, answers at first."""
    end = time.monotonic() + seconds
    while True:
        try:
            seen = attempt()
        except (OSError, ValueError, TypeError) as error:
            seen, error_seen = None, error
        else:
            error_seen = seen
        if seen:
            return seen
        assert time.monotonic() < end, f"{what}: not within {seconds} s; the last was {error_seen!r}"
        time.sleep(0.25)


def fetch(url, data=None, *, method=None, password=None, headers=None, timeout=10, **parameters):
    """The text at the URL, asked past any proxy; data that is no text is sent as JSON."""
    if parameters:
        url += "?" + urllib.parse.urlencode(parameters, doseq=True)
    headers = dict(headers or {})
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
    """What the Prometheus at the URL answers: a list of (labels, value)."""
    answer = fetch_json(f"{url}/api/v1/query", query=expression, **parameters)["data"]["result"]
    return [(series["metric"], series.get("value", [0, series.get("values")])[1]) for series in answer]


def value(url, expression, **parameters):
    """The one value that the Prometheus at the URL answers, as a number, or None."""
    answer = vector(url, expression, **parameters)
    return float(answer[0][1]) if len(answer) == 1 else None


def names_what_is_there(root, texts):
    """Each link, each picture and each file that the texts name is below the root, and each heading in its text."""
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
        for name in set(re.findall(r"(?<![\w/*.-])(?:scripts|stack|src|tests)/[\w./-]*\w(?![\w*/])", written)):
            found = [folder for folder in (root, text.parent) if (folder / name).exists()]
            # up.sh makes these.
            assert found or name.startswith(("stack/.env", "stack/logs")), f"{text} names {name}"


def listens(port):
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def free_ports(count):
    """Below those that the system gives to clients, and of this worker alone."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:])
    found = []
    while len(found) < count:
        free_ports.last += 1
        port = 20000 + worker * 800 + free_ports.last % 800
        if not listens(port):
            found.append(port)
    return found


free_ports.last = os.getpid()  # another run has others


def run(*command, code=0, timeout=200, **named):
    """Runs it to its end, which is to have that code, one of those, or any, and gives all that it said."""
    named.setdefault("env", ENVIRONMENT)
    if "input" not in named:
        named.setdefault("stdin", subprocess.DEVNULL)
    command = [str(word) for word in command]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=timeout, **named)
    said = done.stdout.decode(errors="replace")
    if code is not None:
        codes = code if isinstance(code, range) else [code]
        assert done.returncode in codes, f"{command} ended with code {done.returncode}, not {code}:\n{said}"
    return said


def one_line(said):
    assert said.count("\n") == 1, f"it should be one line:\n{said}"


def docker(*arguments, **named):
    return run("docker", *arguments, **named).strip()


@functools.cache
def needs_docker():
    if not shutil.which("docker") or subprocess.run(["docker", "version"], capture_output=True).returncode:
        pytest.skip("Docker's engine does not run here: install Docker, or start its engine (README, section 1)")
    if subprocess.run(["docker", "compose", "version"], capture_output=True).returncode:
        pytest.skip("there is no docker compose: install the package docker-compose-plugin")


@functools.cache
def _image(name):
    needs_docker()
    files = "\n".join(file.read_text() for file in sorted(ROOT.glob("stack/**/*.yaml")))
    full = re.search(rf"^ *image: *({name}:\S+)", files, re.M)[1]
    if subprocess.run(["docker", "image", "inspect", full], capture_output=True).returncode:
        try:
            pulled = subprocess.run(["docker", "pull", "-q", full], capture_output=True, timeout=240).returncode == 0
        except subprocess.TimeoutExpired:
            pulled = False
        if not pulled:
            raise ImageMissing(f"the image {full} can't be pulled here: run docker pull {full}")
    return full


def image(name):
    """The image with that name in a Compose file, such as prom/prometheus; skips if it can't be pulled.

    The engine whose network this process has joined gets it, too."""
    full = _image(name)
    if Engine.joined:
        Engine.joined.load(full)
    return full


def has_image(name):
    try:
        return bool(image(name))
    except ImageMissing:
        return False


def needs(tool, package):
    if not shutil.which(tool):
        pytest.skip(f"there is no {tool}: install the package {package}")


def start(*command, **named):
    """Starts it in the background. The fixture process ends it, or the caller; on Linux the end of this process, too."""
    named.setdefault("env", ENVIRONMENT)
    named.setdefault("stdin", subprocess.DEVNULL)
    if setpriv := shutil.which("setpriv"):
        command = [setpriv, "--pdeathsig", "KILL", *command]
    return subprocess.Popen([str(word) for word in command], start_new_session=True, **named)


def end(process, seconds=10):
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@functools.cache
def modelmock():
    """The exporter, built as the README says; wherever cargo puts it."""
    said = run("cargo", "build", "--release", "--locked", "--quiet", "--message-format=json", cwd=ROOT, timeout=600)
    built = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    return pathlib.Path([message["executable"] for message in built if message.get("executable")][-1])


class Model:
    """The exporter on a port; started again with other arguments it takes the place of the one before."""

    def __init__(self, port):
        self.port, self.process = port, None
        self.address = f"localhost:{port}"

    def start(self, *arguments):
        self.stop()
        command = [modelmock(), "--listen", f"127.0.0.1:{self.port}", "--quiet", *arguments]
        self.process = start(*command, stdout=subprocess.DEVNULL)
        until(10, f"the model on port {self.port}", lambda: self.process.poll() is None and fetch(f"http://127.0.0.1:{self.port}/"))
        return self

    def stop(self):
        if self.process:
            end(self.process)
            self.process = None


class Lab:
    """A copy of the lab, with ports and a Compose project of its own, and a model on its port 5000."""

    def __init__(self, name, folder="the lab ü", own_ports=True):
        self.project = f"{RUN}-{name}"
        self.work = WORK / name
        self.root = self.work / folder
        self.stack = self.root / "stack"
        self.ports = dict(zip(PORTS, free_ports(len(PORTS)) if own_ports else PORTS))
        self.env = ENVIRONMENT | {"COMPOSE_PROJECT_NAME": self.project}
        self.copy(self.root)
        self.model = Model(self.ports[5000])
        self.prometheus, self.alertmanager, self.mailpit, self.grafana, self.store = (
            f"http://localhost:{self.ports[port]}" for port in (9090, 9093, 8025, 3000, 19090)
        )

    def copy(self, root):
        """What a user gets, without what is the user's own, and with the ports of this lab."""
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
        # Whatever the umask is.
        self.work.chmod(0o755)
        run("chmod", "-R", "a+rX", root)

    def run(self, script, *arguments, code=0, env=None, **named):
        """Runs one of its scripts, such as up, to its end, and gives all that it said."""
        command = self.root / f"scripts/{script}.sh"
        return run(command, *arguments, code=code, env=self.env | (env or {}), cwd=self.root, **named)

    def up(self, *services):
        """The stack, or these services of it, and a model whose result is 0.5."""
        for service in services:
            image(f".*/{service}")
        if not self.model.process:
            self.model.start("--value", "0.5")
        return self.run("up", *services)

    def remove(self):
        self.model.stop()
        remove(self.project)

    def container(self, service, project=""):
        by = [f"com.docker.compose.project={self.project}{project}", f"com.docker.compose.service={service}"]
        return docker("ps", "-aq", *(word for label in by for word in ("--filter", f"label={label}")))

    def ask(self, expression):
        """The one value that its Prometheus answers."""
        return value(self.prometheus, expression)

    def mails(self, beginning=""):
        """The subjects of the mails that begin so, the latest first."""
        messages = fetch_json(f"{self.mailpit}/api/v1/messages?limit=500")["messages"]
        return [message["Subject"] for message in messages if message["Subject"].startswith(beginning)]

    def alerts(self):
        """What is pending or fires, as Prometheus has it."""
        return fetch_json(f"{self.prometheus}/api/v1/alerts")["data"]["alerts"]

    def quiet(self):
        """A model whose result is 0.5, until no alert is active and its mails are sent."""
        self.model.start("--value", "0.5")
        until(90, "no alert", lambda: self.alerts() == [] and self.ask("up") == 1)
        until(90, "the mail of the end", lambda: self.is_over("ModelResultHigh"))

    def is_over(self, alert):
        """Whether its latest mail says so, or there was none. Prometheus tells of an end again after a minute."""
        about = [subject for subject in self.mails() if alert in subject]
        return not about or about[0].startswith("RESOLVED")

    def password(self):
        return (self.stack / ".env").read_text().removeprefix("GRAFANA_PASSWORD=").strip()


IN_NAMESPACE = """set -e
ip link set lo up
mount -t tmpfs -o mode=755 none /mnt
mkdir /mnt/run /mnt/work
# crun starts no container if cgroup v1 and v2 share the controllers.
umount /sys/fs/cgroup/unified 2>/dev/null || true
# The program must be able to read WORK even if the project is in a closed folder, such as /root.
if [ -n "$CLOSED" ]; then
    mount --bind "$WORK" /mnt/work
    mount -t tmpfs -o mode=755 none "$CLOSED"
    mkdir -p "$WORK"
    mount --move /mnt/work "$WORK"
fi
[ -z "$DISK" ] || mount -t tmpfs -o "size=$DISK" none "$FOLDER/data"
if [ -n "$ROOTLESS" ]; then
    for file in passwd group subuid subgid; do
        mount --bind "$FOLDER/etc/$file" "/etc/$file"
    done
    chown "$ROOTLESS" "$FOLDER" "$FOLDER/data" /mnt/run
    # Not every machine allows each user to publish a container's ports.
    mknod -m 666 /mnt/tun c 10 200
    [ ! -e /dev/net/tun ] || mount --bind /mnt/tun /dev/net/tun
    set -- setpriv --reuid "$ROOTLESS" --regid "$ROOTLESS" --clear-groups "$@"
fi
# This shell stays: only a process that doesn't change its user is killed with its parent.
"$@"
exit 1
"""


class Engine:
    """A second container engine, in a network and with mounts of its own, in which the lab's ports are free.

    `with Engine("name"):` starts it, and moves this process into its network until the block ends: fetch(),
    subprocesses, docker() and Chromium then see that network, and docker() this engine. image() loads images
    into it. Its processes end with this one, however this one ends."""

    joined = None

    def __init__(self, name, program="docker", rootless=False, disk=""):
        """program is docker or podman; a disk, such as 100m, is in memory and has that size."""
        if sys.platform != "linux" or os.geteuid() != 0:
            pytest.skip("only root can start a second engine, on Linux: run sudo -E scripts/test.sh")
        for tool, package in {"docker": {"dockerd": "docker.io"}, "podman": {"podman": "podman", "newuidmap": "uidmap"}}[program].items():
            needs(tool, package)
        needs_docker()
        self.folder = WORK / f"engine-{name}"
        self.loaded = set()
        for part in ("data", "etc"):
            (self.folder / part).mkdir(parents=True)
        self.host = f"unix://{self.folder}/engine.sock"
        # Podman wants a short path for its state.
        data, state = self.folder / "data", "/mnt/run"
        command = [
            "dockerd", "-H", self.host, "--data-root", data, "--exec-root", state, "--pidfile", "/mnt/run/pid", "--iptables=false"
        ] if program == "docker" else [
            "podman", "--root", data, "--runroot", state, "--storage-driver", "overlay", "--cgroup-manager", "cgroupfs",
            "--events-backend", "file", "system", "service", "--time=0", self.host
        ]
        if rootless:
            for file, line in (("passwd", "student:x:4242:4242::/:/bin/sh"), ("group", "student:x:4242:")):
                (self.folder / "etc" / file).write_text(pathlib.Path("/etc", file).read_text() + line + "\n")
            for file in ("subuid", "subgid"):
                (self.folder / "etc" / file).write_text("student:100000:65536\n")
        closed = [folder for folder in reversed(WORK.parents) if not folder.stat().st_mode & 1]
        env = {name: ENVIRONMENT[name] for name in ("PATH", "MODELMOCK_RUN", "LC_ALL")} | {
            "WORK": str(WORK), "FOLDER": str(self.folder), "DISK": disk, "ROOTLESS": "4242" if rootless else "",
            "CLOSED": str(closed[0]) if closed else "", "HOME": str(data), "XDG_RUNTIME_DIR": state,
        }
        spaces = ["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
        with (self.folder / "log").open("wb") as log:
            self.process = start("unshare", *spaces, "sh", "-c", IN_NAMESPACE, "sh", *command,
                                 env=env, stdout=log, stderr=log)
        children = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        try:
            until(30, "the second engine", lambda: self.process.poll() is not None or self.answers())
            # The first process of its namespaces.
            self.pid = children.read_text().strip()
        except (AssertionError, OSError) as error:
            raise AssertionError(f"{error}; its log:\n{(self.folder / 'log').read_text()}") from None

    def answers(self):
        return subprocess.run(["docker", "-H", self.host, "version"], capture_output=True).returncode == 0

    def load(self, *images):
        """Copies images of the first engine into this one."""
        missing = [name for name in images if name not in self.loaded]
        if missing:
            with subprocess.Popen(["docker", "save", *missing], stdout=subprocess.PIPE) as save:
                run("docker", "-H", self.host, "load", stdin=save.stdout, timeout=300)
            assert save.returncode == 0, f"docker save {missing} failed"
            self.loaded.update(missing)

    def command(self, *command, **env):
        """The command, in its network and with its mounts."""
        given = [f"{name}={value}" for name, value in {"DOCKER_HOST": self.host, **env}.items()]
        return ["nsenter", "--target", self.pid, "--net", "--mount", "env", *given, *command]

    def run(self, *command, env=(), **named):
        return run(*self.command(*command, **dict(env)), **named)

    def __enter__(self):
        assert not Engine.joined
        self.before = open("/proc/thread-self/ns/net")
        with open(f"/proc/{self.pid}/ns/net") as network:
            join(network)
        Engine.joined = self
        self.environment = dict(ENVIRONMENT)
        ENVIRONMENT.pop("DOCKER_CONTEXT", None)
        ENVIRONMENT["DOCKER_HOST"] = self.host
        return self

    def __exit__(self, *_):
        with self.before:
            join(self.before)
        Engine.joined = None
        ENVIRONMENT.clear()
        ENVIRONMENT.update(self.environment)
        self.stop()

    def stop(self):
        # With the first process of a namespace all of its processes end.
        os.kill(int(self.pid), signal.SIGKILL)
        self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


def join(network):
    """Moves this thread, and what it starts, into that network namespace."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(network.fileno(), 0x40000000):  # CLONE_NEWNET
        raise OSError(ctypes.get_errno(), "setns failed")


def edit(file, pattern, new):
    """Changes a file in its place, as an editor does, and as one that all may read; it must have the pattern."""
    before = file.read_text(encoding="utf-8")
    put(file, re.sub(pattern, new, before, flags=re.M))


def put(file, text):
    new = file.with_name(file.name + ".new")
    new.write_bytes(text.encode())
    new.chmod(file.stat().st_mode if file.exists() else 0o644)
    new.replace(file)


def remove(project):
    """Containers, volumes and networks of the Compose projects of this run whose name begins so."""
    assert project.startswith(RUN)
    kinds = {"container": ["ps", "-a"], "volume": ["volume", "ls"], "network": ["network", "ls"]}
    names = {"container": "{{.ID}}", "volume": "{{.Name}}", "network": "{{.ID}}"}
    for kind, listing in kinds.items():
        form = names[kind] + ' {{.Label "com.docker.compose.project"}}'
        lines = docker(*listing, "--filter", "label=com.docker.compose.project", "--format", form).splitlines()
        mine = [line.split()[0] for line in lines if f"{line.split()[1]}-".startswith(f"{project}-")]
        if project == RUN:
            mine += docker(*listing, "--filter", f"label={LABEL}", "--format", names[kind]).splitlines()
        if mine:
            docker(kind, "rm", "-f", *(["-v"] if kind == "container" else []), *mine, code=None)
    if images := docker("image", "ls", "--filter", f"reference={project}", "--filter", f"reference={project}-*", "--format", "{{.Repository}}:{{.Tag}}").split():
        docker("image", "rm", *images, code=None)
