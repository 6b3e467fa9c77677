"""A student's stack: the folder my-stack in a copy of the lab, with the files of the lab's pages or with others."""

import re

from lab import require_image, run
from my_stack import assemble, core_text


class Stack:
    """my-stack with these files, in which @9090 is the port that the lab's copy has in place of 9090."""

    def __init__(self, lab, files):
        self.lab, self.root, self.folder = lab, lab.root, lab.root / "my-stack"
        self.env = lab.env = lab.env | {"COMPOSE_PROJECT_NAME": f"{lab.project}-mine"}
        self.folder.mkdir()
        self.files = {name: self.with_ports(text) for name, text in files.items()}
        self.restore()

    def with_ports(self, text):
        return re.sub(r"@(\d{4,5})\b", lambda found: str(self.lab.ports[int(found[1])]), text)

    def restore(self):
        """Puts each file back that was changed, in its place."""
        for name, text in self.files.items():
            file = self.folder / name
            if not file.exists() or file.read_text() != text:
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(text)

    def edit(self, name, old, new):
        """Changes a file in its place, as some editors do: the container sees the change."""
        text = (self.folder / name).read_text()
        old, new = self.with_ports(old), self.with_ports(new)
        assert old in text, f"{name} lacks {old}"
        (self.folder / name).write_text(text.replace(old, new))

    def compose(self, *arguments, **named):
        return run("docker", "compose", *arguments, cwd=self.folder, env=self.env, **named)

    def up(self, *options):
        return self.compose(*options, "up", "-d", "--remove-orphans")

    def check(self, *arguments, code=0, cwd=None, **named):
        """The lines of check.sh as {criterion: line}, and all of it under the key None."""
        command = self.root / "scripts/check.sh"
        output = run(command, *arguments, code=code, cwd=cwd or self.root, env=self.env | named.pop("env", {}), **named)
        lines = [line for line in output.splitlines() if re.match("(ok|FAIL|open) ", line)]
        return {line[6:].split(": ")[0]: line for line in lines} | {None: output}


class Student(Stack):
    """The stack that the lab's pages build."""

    def __init__(self, lab, count=None, services=("prometheus", "alertmanager", "mailpit", "grafana")):
        """The first `count` blocks of pages 1 to 6, or all; services that aren't named are left out."""
        for service in services:
            require_image(f".*/{service}")
        files = {}
        for name, text in assemble(core_text(lab.root), count).items():
            mark = lambda found: f"@{found[0]}" if int(found[0]) in lab.ports else found[0]
            text = re.sub(r"(?<![\w.=])\d{4,5}(?!\w)", mark, text)
            port = r'\g<0>\n\1GF_SERVER_HTTP_PORT: "@3000"'
            text = re.sub(r"^( *)GF_SERVER_HTTP_ADDR:.*", port, text, flags=re.M)
            for service in {"prometheus", "alertmanager", "mailpit", "grafana"} - set(services):
                text = re.sub(rf"^  {service}:\n(    .*\n)+", "", text, flags=re.M)
            files[name] = text
        super().__init__(lab, files)
