"""The awk programs of the scripts, which do the same with each awk; and data, which never becomes part of a program.

Debian has mawk, macOS the original awk, and small systems have BusyBox's."""

import functools
import re
import shutil
import subprocess

import pytest

from lab import ENVIRONMENT, ROOT, run

SCRIPTS = sorted(ROOT.glob("scripts/**/*.sh"))
AWKS = [awk for awk in ("mawk", "gawk --posix", "busybox awk", "original-awk", "awk") if shutil.which(awk.split()[0])]

# A word in a script, as it is written, with at most one level of quotes in a substitution.
WORD = r"""(?:'[^']*'|"(?:[^"\\$]|\\.|\$\((?:[^()"]|"[^"]*")*\)|\$)*"|\\.|[^\s'"\\|;&()<>])+"""
COMMAND = r"(?<![\w./'\"-])"
OPTION = rf"\s+\\?\s*(-[Fv])\s*({WORD})"
AWK = re.compile(rf"{COMMAND}awk((?:{OPTION})*)\s+(?:(-f)\s+)?({WORD})")
PROGRAM = re.compile(rf"{COMMAND}(awk|sed|grep|sh -c)((?:\s+-[\w-]+)*)\s+({WORD})")


def text_of(script):
    """The script without comments."""
    return re.sub(r"^[ \t]*#.*\n", "", script.read_text(), flags=re.M)


def unquoted(word):
    """The word as a program gets it, if the shell puts nothing into it."""
    parts = re.findall(r"""'([^']*)'|"((?:[^"\\]|\\.)*)"|([^'"]+)""", word)
    return "".join(single or re.sub(r"\\(.)", r"\1", double or bare) for single, double, bare in parts)


def programs():
    """Each awk program: its options -F and -v, and its text."""
    for script in SCRIPTS:
        for options, _, _, from_file, word in AWK.findall(text_of(script)):
            if not from_file:
                options = [(flag, unquoted(value)) for flag, value in re.findall(OPTION, options)]
                line = script.read_text().partition(unquoted(word)[:40])[0].count("\n") + 1
                yield pytest.param(options, unquoted(word), id=f"{script.name}:{line}")
    for file in sorted(ROOT.glob("scripts/**/*.awk")):
        yield pytest.param([("-F", r"\t")], file.read_text(), id=file.name)


# One text of each kind that the programs read.
TEXT = "\n".join([
    (ROOT / "tests/page.prom").read_text(),
    "model_result{a=\"b\"} 1.5e-07 1700000000000\n\"\"1700000000.5 0.25 name\n",
    "name\trunning\tan/image:1\tname\t/etc/prometheus",
    "0/labels/instance\tlocalhost:5000\n0/value/1\t0.5\n1/labels/instance\tother:5000\n1/value/1\t0.9\n0/state\tfiring",
    "data/groups/0/rules/0/name\tHigh\ndata/groups/0/rules/0/query\tmodel_result > 0.9",
    "data/groups/0/rules/1/name\tOther\ndata/groups/0/rules/1/query\tmodel_result == 1",
    "panels/0/type\ttimeseries\npanels/0/targets/0/expr\tmodel_result\npanels/0/fieldConfig/defaults/min\t0",
    "9093/tcp -> 0.0.0.0:9093",
    '{\n"a \\\\\\"\\u003c\\n"\n:\n[\n1\n,\nnull\n,\n{\n"b"\n:\n-1.5\n}\n]\n}\n',
    "modelmock hand-in 1\nnumber: 7\nwritten: 2026-11-24T10:00:00Z",
    "check: ok    all\ncheck: FAIL  one\nminutes-scraped: 15",
    "== my-stack/alertmanager.yml\n| smtp_password: x\n|   deeper\n|\n== my-stack/answers.md\n| yes",
    "sample: 1700000000.123 1 0.5\nsample: 1700000005.123 2 0.75\nsample: 1700000010.123 1 0.5",
    "1 2\n3 1700000000 5.5\nmodel_result 3 0.25\n0.5 1 ALERTS\n700.5 1 ALERTS\n",
])
# A program that reads a table wants its columns.
TABLE = "number\twith\tfile\tname\tmax\tmodel\trule verdict\ttest verdict\tlook at\n"
TABLE += "7\t\t7.txt\tAda\t20\t1\tok: yes\t\t\n"
ENV = {
    "hidden": "running", "old": "result", "new": "&", "limit": "0.9", "folder": "/etc/prometheus",
    "path": "/etc/prometheus", "mounts": "/etc\t/here\n/other\t/there", "uids": " own ", "description": "none",
}


@functools.cache
def output(awk, options, program, file):
    words = [word for option in options for word in option]
    command = [*awk.split(), *words, program, file]
    env = ENVIRONMENT | ENV | {"LC_ALL": "C"}
    done = subprocess.run(command, capture_output=True, timeout=120, env=env)
    assert not done.stderr, f"{awk}: {done.stderr.decode(errors='replace')[:500]}"
    # A loop over an array has any order.
    return done.returncode, sorted(done.stdout.split(b"\n"))


def example_of(option):
    return "n=1" if option[1] == "n" else f"{option[1]}=model_result"


@pytest.mark.parametrize("options, program", list(programs()))
def test_a_program_does_the_same_with_each_awk(options, program, tmp_path):
    # The value of an option is an example, if the shell sets it.
    options = tuple((flag, re.sub(r"^(\w+)=.*[$].*", example_of, value, flags=re.S)) for flag, value in options)
    file = tmp_path / "1001.txt"
    file.write_text(TABLE if 'column["file"]' in program else TEXT)
    first = output(AWKS[0], options, program, file)
    for awk in AWKS[1:]:
        assert output(awk, options, program, file) == first, f"{AWKS[0]} and {awk} differ"


@pytest.fixture(params=AWKS)
def call(request, tmp_path):
    """Calls a function of the scripts in a shell whose awk is this one."""
    (tmp_path / "awk").write_text(f'#!/bin/sh\nPATH={ENVIRONMENT["PATH"]} exec {request.param} "$@"\n')
    (tmp_path / "awk").chmod(0o755)
    (tmp_path / "curl").write_text('#!/bin/sh\nprintf "%s\\n" "$PAGE"\n')
    (tmp_path / "curl").chmod(0o755)

    def call(words, page="", text="", *arguments):
        env = ENVIRONMENT | {"PATH": f"{tmp_path}:{ENVIRONMENT['PATH']}", "PAGE": page}
        command = ["sh", "-c", f'. "${{0%/*}}/lib/common.sh"; {words}', ROOT / "scripts/check.sh", *arguments]
        return run(*command, input=text.encode(), env=env, code=None).rstrip("\n")

    return call


@pytest.mark.parametrize(
    "page, least, value",
    [
        ("m NaN", "", "NaN"),
        ('m 1\nm_other 5\nm{a="b } c"} 2e-05 1700000000000', "", "1.00002"),
        ('m{a="1"} 1.7645253315e+09\nm{a="2"} 12', "least", "12"),
        ("m +Inf\nm 3", "", "+Inf"),
        ("m 0x10", "", "0x10"),
        ("n 1", "", ""),
        ("m 0", "", "0"),
    ],
)
def test_metric(call, page, least, value):
    assert call(f"metric http://x m {least}", page) == value


def test_json_as_lines(call):
    text = r'{"a": {"b c": [1, "tab\tquote\" <\u003c \\n", null, {"d": []}, true]}, "": -1.5e3, "e/0": "x"}'
    lines = ["a/b c/0\t1", 'a/b c/1\ttab quote" << \\n', "a/b c/2\tnull", "a/b c/4\ttrue", "\t-1.5e3", "e/0\tx"]
    assert call("json_values", text=text).splitlines() == lines
    assert call("json_values | values 'a/b c/N'", text=text).splitlines() == ["1", 'tab quote" << \\n', "null", "true"]
    assert call("json_values | below a | values 'b c/1'", text=text) == 'tab quote" << \\n'


def test_paths_in_a_message(call):
    text = f'open /host_mnt{ROOT}/my-stack/a.yml: no, "{ROOT}/b" and {ROOT}'
    assert call("without_root", text=text) == f'open my-stack/a.yml: no, "b" and {ROOT}'


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: str(script.relative_to(ROOT)))
def test_no_data_becomes_part_of_a_program(script):
    text = text_of(script)
    assert len(AWK.findall(text)) == len(re.findall(rf"{COMMAND}awk\s", text)), "an awk command isn't understood here"
    for _, _, _, from_file, word in AWK.findall(text):
        variable = re.search(r"[$`]", re.sub("'[^']*'", "", word))
        assert from_file or not variable, f"an awk program holds a variable: {word}"
    for name, options, word in PROGRAM.findall(AWK.sub("", text)):
        variable = re.search(r"[$`][\w({*@#?]|[$`]$", re.sub("'[^']*'", "", word))
        # grep -F takes no pattern, but a text.
        assert not variable or (name == "grep" and "F" in options), f"{name}{options} {word} holds a variable"


@pytest.mark.parametrize("function", ["metric http://x model_result", "metric http://x model_result least"])
def test_a_page_runs_nothing(call, function, tmp_path):
    mark = tmp_path / "ran"
    for text in (f'1); system("touch {mark}"); (1', f"`touch {mark}`", f"$(touch {mark})", f'";touch {mark};"'):
        call(function, page=f"model_result {text}")
        call("json_values | values a", text='{"a": "' + text.replace('"', '\\"') + '"}')
        call('echo x | text="$1" without_root; values "$1"; below "$1"', "", text, text)
    assert not mark.exists()
