"""For the tests of the incidents: a copy of the lab in which an incident takes seconds, and a pool that plays several.

Most of the time, an incident waits, so several of them are played at the same time."""

import concurrent.futures
import re

from lab import docker, edit, require_image, run

NAMES = "typo silence label dropped route hang source volume watchdog reload".split()
# An engine pauses for each container that it starts: more at a time would not be faster.
AT_A_TIME = 3
# A test waits for the incidents before its own.


class OnCall:
    """A lab whose scrapes, rules and waits are short, and the commands of a student on call in it."""

    def __init__(self, make_lab, name, **named):
        self.name = name.rpartition("-")[2]
        self.lab = lab = make_lab(f"oncall-{name}", **named)
        self.folder = lab.root / "incident"
        self.results = lab.root / "my-stack/incidents.txt"
        for service in ("prometheus", "alertmanager", "mailpit"):
            require_image(f".*/{service}")
        if self.name == "source":
            require_image("grafana/grafana")
        else:
            # Only one incident is about Grafana, and Grafana takes longest to start.
            edit(lab.root / "scripts/lib/common.sh", r"^grafana +- ", "grafana  x ")
        edit(lab.stack / "prometheus/prometheus.yml", r"_interval: 5s", "_interval: 1s")
        edit(lab.stack / "prometheus/rules/model.yml", r"interval: 5s|keep_firing_for: 15s",
             lambda found: re.sub(r"\d+s", "1s", found[0]))
        quick = "auto-reload-interval=1s\n      - --rules.alert.resend-delay=1s"
        edit(lab.stack / "compose.yaml", r"auto-reload-interval=5s", quick)

    def do(self, *words, **named):
        """Runs incident.sh."""
        return self.lab.run("incident", *words, **named)

    def check(self, *words, code=0):
        """Runs incident.sh check: only one that should succeed waits as long as a busy machine needs."""
        edit(self.lab.root / "scripts/incident.sh", r"^patience=\d+", f"patience={5 if code else 60}")
        return self.do("check", *words, code=code)

    def compose(self, *words, **named):
        """Runs docker compose in incident/, as the student does."""
        env = {name: value for name, value in self.lab.env.items() if name != "COMPOSE_PROJECT_NAME"}
        return run("docker", "compose", *words, cwd=self.folder, env=env, **named)

    def port(self, port):
        return self.lab.ports[port]

    def edit(self, file, pattern, new):
        edit(self.folder / file, pattern, new)

    def state(self, name):
        return (self.folder / ".state" / name).read_text().strip()

    def left(self):
        """Everything that the incident has on this machine."""
        found = []
        for listing in (["ps", "-a"], ["volume", "ls"], ["network", "ls"]):
            label = f"label=com.docker.compose.project={self.lab.project}-incident"
            found += docker(*listing, "-q", "--filter", label).split()
        listening = run("ps", "-eo", "args")
        found += re.findall(rf"{re.escape(str(self.lab.root))}.*modelmock --listen .*", listening)
        return found + [str(file) for file in self.folder.glob("**/*")]

    def end(self):
        self.do("end")
        left = self.left()
        assert left == [], f"end leaves {left}"


def play(make_lab, request, story):
    """Starts story(on_call) for each incident of the file's tests, and returns a dictionary of the futures."""
    pool = concurrent.futures.ThreadPoolExecutor(AT_A_TIME)

    def one(name):
        on_call = OnCall(make_lab, f"{story.__name__}-{name}")
        try:
            return story(on_call)
        finally:
            on_call.do("end", code=None)

    tests = [item for item in request.session.items if item.path == request.path]
    return {name: pool.submit(one, name) for name in (item.callspec.params["name"] for item in tests)}
