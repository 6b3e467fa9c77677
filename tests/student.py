"""A student's stack: the folder my-stack in a copy of the lab, with the files that the README's blocks give."""

import re

from lab import image, run
from my_stack import assemble


class Student:
    def __init__(self, lab, count=None, services=("prometheus", "alertmanager", "mailpit", "grafana")):
        """The first `count` blocks of the README, or all; services that aren't named are left out."""
        for service in services:
            image(f".*/{service}")
        self.lab, self.root, self.folder = lab, lab.root, lab.root / "my-stack"
        self.env = lab.env = lab.env | {"COMPOSE_PROJECT_NAME": f"{lab.project}-mine"}
        self.folder.mkdir()
        self.files = {}
        for name, text in assemble((lab.root / "README.md").read_text(), count).items():
            text = re.sub(r"(?<![\w.=])\d{4,5}(?!\w)", lambda found: str(lab.ports.get(int(found[0]), found[0])), text)
            port = rf'\g<0>\n\1GF_SERVER_HTTP_PORT: "{lab.ports[3000]}"'
            text = re.sub(r"^( *)GF_SERVER_HTTP_ADDR:.*", port, text, flags=re.M)
            for service in {"prometheus", "alertmanager", "mailpit", "grafana"} - set(services):
                text = re.sub(rf"^  {service}:\n(    .*\n)+", "", text, flags=re.M)
            self.files[name] = text
        self.restore()

    def restore(self):
        """Puts each file back that was changed, in its place."""
        for name, text in self.files.items():
            file = self.folder / name
            if not file.exists() or file.read_text() != text:
                file.write_text(text)

    def edit(self, name, old, new):
        """Changes a file in its place, as some editors do: the container sees the change."""
        text = (self.folder / name).read_text()
        assert old in text
        (self.folder / name).write_text(text.replace(old, new))

    def compose(self, *arguments, **named):
        return run("docker", "compose", *arguments, cwd=self.folder, env=self.env, **named)

    def up(self):
        return self.compose("up", "-d", "--remove-orphans")

    def check(self, *arguments, code=0, cwd=None, **named):
        """The lines of check.sh as {criterion: line}, and all of it under the key None."""
        command = self.root / "scripts/check.sh"
        said = run(command, *arguments, code=code, cwd=cwd or self.root, env=self.env | named.pop("env", {}), **named)
        lines = [line for line in said.splitlines() if re.match("(ok|FAIL|open) ", line)]
        return {line[6:].split(": ")[0]: line for line in lines} | {None: said}
