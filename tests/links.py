"""Checks the links of the texts."""

import re


def assert_links_exist(root, texts):
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
