"""What tests share: a copy of the lab with its own ports and Compose project, and how to wait.

Nothing here touches the user's things: everything that a run starts carries RUN, in its environment, in the
name of its Compose project, or in a label.
"""

import base64
import contextlib
import functools
import http.client
import json
import os
import pathlib
import random
import re
import shutil
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
PORTS = [5000, 5001, 5002, 9090, 9093, 1025, 8025, 3000, 3100, 9095, 2020, 9100]
PORTS += [19090, 19091, 19092, 19101, 19102, 19103, 19291]
# Without the variables with which a user changes the scripts and their tools.
ENVIRONMENT = {
    name: value
    for name, value in os.environ.items()
    if not re.match("(COMPOSE|GRAFANA|MODELMOCK_FLAGS|CARGO_TARGET|CDPATH|PYTEST)|.*_proxy$", name, re.I)
} | {"MODELMOCK_RUN": RUN, "LC_ALL": "C.UTF-8"}
# The second engine whose network this process has joined, if any: see engine.py.
joined_engine = None
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class ImageMissing(pytest.skip.Exception):
    """A skip that isn't a failure in CI, as an image registry can't be reached from everywhere."""


def until(seconds, what, attempt, show=None):
    """Repeats the attempt until it returns something true, and returns that. A failure prints what show() returns."""
    end = time.monotonic() + seconds
    while True:
        try:
            seen = last = attempt()
        except (OSError, ValueError, TypeError, http.client.HTTPException) as error:
            seen, last = None, error
        if seen:
            return seen
        if time.monotonic() >= end:
            last = f"; there is: {show()!r}" if show else "" if last is False else f"; the last was {last!r}"
            raise AssertionError(f"{what}: not within {seconds} s{last}")
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


def is_readable(url, origin="http://attacker.example"):
    """Whether a web page of that origin may read the answer, by the header that browsers look at."""
    answer = run("curl", "-qsSi", "--noproxy", "*", "-H", f"Origin: {origin}", url)
    # Mailpit refuses the request.
    assert re.match(r"HTTP/1.1 (200|403)\b", answer), answer
    return re.search(rf"^access-control-allow-origin: (\*|{origin})\r$", answer, re.M | re.I) is not None


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


def run(*command, code=0, timeout=900, stderr=subprocess.STDOUT, **named):
    """Runs the command and returns its output; with a pipe for errors, those come last. Its exit code must be this one,
    or any if None."""
    named.setdefault("env", ENVIRONMENT)
    if "input" not in named:
        named.setdefault("stdin", subprocess.DEVNULL)
    command = [str(word) for word in command]
    require_tool(command[0])
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=stderr, timeout=timeout, **named)
    output = (done.stdout + (done.stderr or b"")).decode(errors="replace")
    assert code in (None, done.returncode), f"{command} ended with code {done.returncode}, not {code}:\n{output}"
    return output


def search(pattern, text):
    """The first match of the pattern in the text; without one, the test fails and shows the text."""
    found = re.search(pattern, text, re.M)
    assert found, f"no match of {pattern!r} in:\n{text}"
    return found


def assert_one_line(output):
    assert output.count("\n") == 1, f"it should be one line:\n{output}"


def without(folder, *tools):
    """The variables of a machine that lacks these tools: its PATH is the folder, with links to all other tools."""
    folder.mkdir()
    for there in reversed(ENVIRONMENT["PATH"].split(":")):
        # Of two tools with one name, the first in the PATH.
        run("sh", "-c", 'ln -sf "$0"/* "$1" 2>&1 || true', there, folder)
    for tool in tools:
        (folder / tool).unlink(missing_ok=True)
    return {"PATH": str(folder)}


def docker(*arguments, **named):
    return run("docker", *arguments, **named).strip()


@functools.cache
def install_command():
    """The command that installs a package on this machine, or None."""
    managers = {"apt-get": "apt install", "dnf": "dnf install", "pacman": "pacman -S", "zypper": "zypper install"}
    if shutil.which("brew"):
        return "brew install"
    command = next((managers[name] for name in managers if shutil.which(name)), None)
    return command if command is None or os.geteuid() == 0 else f"sudo {command}"


def to_install(*packages):
    """The command that installs packages of Debian; on other systems, some have another name."""
    return f"{install_command() or 'install the package'} {' '.join(packages)}"


def needs(tool, package, only=""):
    """Skips the test if the tool is missing. `only` is the only system that has it, such as linux."""
    if only and sys.platform != only:
        pytest.skip(f"{tool} is missing: only {only.capitalize()} has it")
    if not shutil.which(tool):
        pytest.skip(f"{tool} is missing: {to_install(package)}")


# The packages of Debian in which these programs are.
PACKAGES = {"nsenter": "util-linux", "ps": "procps", "readelf": "binutils", "ss": "iproute2", "unshare": "util-linux"}


def require_tool(name):
    """Skips the test if the program, which it is about to run, is missing."""
    if name == "docker":
        needs_docker()
    elif name in ("cargo", "rustc"):
        needs_rust()
    elif "/" not in name:
        needs(name, PACKAGES.get(name, name))


def needs_root():
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("only root can do this, and only on Linux")


def needs_rust():
    # scripts/test.sh found out.
    if reason := os.environ.get("MODELMOCK_WITHOUT_RUST"):
        pytest.skip(reason)


def needs_git():
    """For tests that look at what git has of the project."""
    needs("git", "git")
    found = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    if found.returncode:
        pytest.skip(f"this folder isn't a clone that git can read: {found.stderr.strip().splitlines()[0]}")


@functools.cache
def without_docker():
    """Why the scripts refuse to work with Docker here, or None."""
    # In the scripts' own words.
    command = ["sh", "-c", '. "$(dirname "$0")/lib/common.sh"; require_docker', ROOT / "scripts/up.sh"]
    try:
        done = subprocess.run(command, env=ENVIRONMENT, stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
    except subprocess.TimeoutExpired:
        return "Docker's engine doesn't answer within 60 s: restart it"
    if done.returncode == 0:
        return None
    reason = done.stderr.decode(errors="replace").strip().splitlines()[-1].partition(": ")[2]
    system = pathlib.Path("/etc/os-release")
    if install_command() and "apt" in install_command() and system.exists():
        # The plugin's package has another name in Ubuntu, and a third one in Docker's own repository.
        plugin = "docker-compose-v2" if "ubuntu" in system.read_text() else "docker-compose"
        missing = {"Docker is missing": ["docker.io", plugin], "docker compose of version 2 or later": [plugin]}
        for beginning, packages in missing.items():
            if reason.startswith(beginning):
                return f"{reason.partition(':')[0]}: {to_install(*packages)}"
    return reason


def needs_docker():
    if reason := without_docker():
        pytest.skip(reason)


def has_engine():
    return without_docker() is None


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


def require_image(name):
    """The full name of an image in the Compose files, such as prom/prometheus. Skips if it can't be pulled.

    The engine that this process has joined gets the image, too."""
    full, is_here = pulled(name)
    if not is_here:
        raise ImageMissing(f"the image {full} can't be pulled here: run docker pull {full}")
    if joined_engine:
        joined_engine.load(full)
    return full


@functools.cache
def is_whole(image):
    touch = ["docker", "run", "--rm", "--label", LABEL, "--network", "none", "--entrypoint", "touch", image, "/tmp/file"]
    return subprocess.run(touch, capture_output=True, timeout=240).returncode == 0


def require_whole(name):
    """The same for tests that need more than the program: web pages, temporary files, or Mailpit's texts and search.
    A stand-in for an image that can't be pulled lacks them, and the tools of the image."""
    full = require_image(name)
    if not is_whole(full):
        raise ImageMissing(f"the image {full} here is a stand-in, which has the program only")
    return full


def has_image(name):
    return pulled(name)[1]


def start(*command, **named):
    """Starts the command in the background. The caller ends it; on Linux it also ends with this process."""
    named.setdefault("env", ENVIRONMENT)
    named.setdefault("stdin", subprocess.DEVNULL)
    if setpriv := shutil.which("setpriv"):
        command = [setpriv, "--pdeathsig", "KILL", *command]
    return subprocess.Popen([str(word) for word in command], start_new_session=True, **named)


def terminate(process, seconds=10):
    process.terminate()
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@functools.cache
def modelmock():
    """The exporter, built as in the README, wherever cargo writes it."""
    needs_rust()
    output = run("cargo", "build", "--release", "--locked", "--quiet", "--message-format=json", cwd=ROOT)
    built = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
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
            terminate(self.process)
            self.process = None


class Lab:
    """A copy of the lab, with ports and a Compose project of its own, and a model on its port 5000."""

    def __init__(self, name, folder="the lab ü", own_ports=True):
        # The same tests may run on another engine, too.
        name = f"{joined_engine.name}-{name}" if joined_engine else name
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
        for file in ("README.md", "LICENSE", "CHANGELOG.md", "Cargo.toml", "Cargo.lock"):
            shutil.copy(ROOT / file, root)
        (root / "target/release").mkdir(parents=True)
        (root / "target/release/modelmock").symlink_to(modelmock())
        for file in [*root.glob("scripts/**/*.*"), *root.glob("stack/**/*.*")]:
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
            require_image(f".*/{service}")
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

    def exposed(self):
        """The addresses on which other machines can reach the lab's ports."""
        needs("ss", "iproute2", only="linux")
        addresses = [line.split()[3] for line in run("ss", "-ltnH").splitlines()]
        ports = tuple(f":{port}" for port in self.ports.values())
        return [address for address in addresses if address.endswith(ports) and not address.startswith("127.0.0.1:")]

    def run_health_check(self, service):
        """Runs the service's own check, within its own time limit, as often as the engine would."""
        check = json.loads(docker("inspect", "-f", "{{json .Config.Healthcheck}}", self.container(service)))
        command = ["docker", "exec", self.container(service), *check["Test"][1:]]
        limit = check["Timeout"] / 1e9

        def is_healthy():
            with contextlib.suppress(subprocess.TimeoutExpired):
                return subprocess.run(command, env=ENVIRONMENT, capture_output=True, timeout=limit).returncode == 0

        assert any(is_healthy() for _ in range(check["Retries"])), f"{service}: its check fails within {limit} s"

    def ask(self, expression):
        return value(self.prometheus, expression)

    def mails(self, beginning=""):
        """The subjects of the mails that begin like this, the latest first."""
        messages = fetch_json(f"{self.mailpit}/api/v1/messages?limit=500")["messages"]
        return [message["Subject"] for message in messages if message["Subject"].startswith(beginning)]

    def mail_texts(self, beginning):
        """The texts of the mails whose subjects begin like this, the latest first."""
        require_whole("axllent/mailpit")
        messages = fetch_json(f"{self.mailpit}/api/v1/messages?limit=500")["messages"]
        found = [message["ID"] for message in messages if message["Subject"].startswith(beginning)]
        found = [fetch_json(f"{self.mailpit}/api/v1/message/{each}") for each in found]
        assert not any(mail["HTML"] for mail in found)
        return [mail["Text"].replace("\r\n", "\n") for mail in found]

    def quiet(self):
        """Starts a model whose result is 0.5, and waits until no alert is active and its mails are sent."""
        self.model.start("--value", "0.5")
        alerts = f"{self.prometheus}/api/v1/alerts"
        active = lambda: fetch_json(alerts)["data"]["alerts"]
        until(90, "no alert", lambda: not active() and self.ask("up") == 1, active)
        # Prometheus repeats an end after a minute, so only the latest mail counts.
        latest = lambda: [subject for subject in self.mails() if "ModelResultHigh" in subject][:1]
        until(90, "the mail of the end", lambda: "FIRING" not in str(latest()), self.mails)

    def password(self):
        return (self.stack / ".env").read_text().removeprefix("GRAFANA_PASSWORD=").strip()


def edit(file, pattern, new):
    """Replaces a file, as many editors do, with each match of the pattern changed."""
    before = file.read_text(encoding="utf-8")
    replace_file(file, re.sub(pattern, new, before, flags=re.M))


def replace_file(file, text):
    new = file.with_name(file.name + ".new")
    new.write_bytes(text.encode())
    new.chmod(file.stat().st_mode if file.exists() else 0o644)
    new.replace(file)


def remove(project):
    """Removes containers, volumes, networks and images of the tests' Compose projects that begin like this."""
    assert project.startswith("modelmock-test-")
    if not has_engine():
        return
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
