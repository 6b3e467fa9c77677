"""How up.sh starts the stack on a real engine, and what keeps it from that."""

import shutil
import socket

import pytest

from lab import assert_one_line, docker, edit, needs_root, remove, require_image, run, start, terminate, until


@pytest.fixture(scope="module")
def lab(make_lab):
    for service in ("alertmanager", "mailpit", "prometheus"):
        require_image(f".*/{service}")
    lab = make_lab("up")
    (lab.work / ".curlrc").write_text("ipv6\nfail-with-body\n")
    lab.env["CURL_HOME"] = str(lab.work)
    return lab


@pytest.fixture(autouse=True)
def clean(lab):
    """Each test begins and ends without a stack and its data, even if down.sh fails."""
    yield
    remove(lab.project)
    (lab.stack / ".env").unlink(missing_ok=True)


def there(lab, *listing):
    return docker(*listing, "--filter", f"label=com.docker.compose.project={lab.project}").split()


def test_a_taken_port_is_named_with_the_program_that_has_it(lab, model):
    model(port=lab.ports[9093])
    output = lab.run("up", "alertmanager", code=1)
    assert f"port {lab.ports[9093]}, which alertmanager needs" in output
    assert_one_line(output)
    if shutil.which("lsof") or shutil.which("ss"):
        assert "modelmock" in output


def test_a_file_that_the_containers_may_not_read_is_named_with_a_hint_that_works(lab):
    # As with a umask of 077; the folder's name has blanks.
    run("chmod", "-R", "go-rwx", lab.stack)
    output = lab.run("up", "mailpit", code=1)
    assert_one_line(output)
    assert "the containers may not read" in output
    run("sh", "-c", output.split(": run ")[1], cwd="/")
    lab.run("up", "mailpit")


def test_through_links_the_stack_is_the_same(lab):
    link = lab.work / "link"
    link.symlink_to(lab.root)
    lab.run("up", "mailpit")
    run(link / "scripts/down.sh", env=lab.env)
    # Compose by hand takes the link for the folder.
    run("docker", "compose", "-f", link / "stack/compose.yaml", "up", "-d", "mailpit", env=lab.env)
    script = lab.work / "up"
    script.symlink_to(lab.root / "scripts/up.sh")
    run(script, "mailpit", env=lab.env)


def test_the_users_password_stays_and_only_the_copy_that_has_it_deletes_the_data(lab):
    file, elsewhere = lab.stack / ".env", lab.work / "password"
    file.write_text("GRAFANA_PASSWORD=of-the-user\n")
    lab.run("up", "mailpit")
    assert file.read_text() == "GRAFANA_PASSWORD=of-the-user\n"
    assert "its data is kept" in lab.run("down")
    file.rename(elsewhere)
    output = lab.run("down", "--volumes", code=1)
    assert_one_line(output)
    assert there(lab, "volume", "ls", "-q") == output.split("the data may be another copy's")[1].split("rm ")[1].split()
    elsewhere.rename(file)
    assert "are gone" in lab.run("down", "--volumes")
    assert not file.exists() and not there(lab, "ps", "-aq") and not there(lab, "volume", "ls", "-q")


def test_a_program_at_the_models_port_over_ipv6_is_not_asked(lab):
    """On a Mac, AirPlay Receiver answers there."""
    with socket.create_server(("::1", lab.ports[5000]), family=socket.AF_INET6):
        output = lab.run("check", "exporter", code=1)
    assert "exporter answers" in output and "timed out" not in output


def test_if_dockers_host_network_is_not_this_machines_it_says_so(lab):
    # In a network of its own, a script reaches the engine, but not the engine's host network.
    needs_root()
    output = run("unshare", "--net", lab.root / "scripts/up.sh", "mailpit", env=lab.env, code=1)
    assert "Docker's host network is not this machine's" in output
    lab.run("up", "prometheus", "alertmanager")
    command = ["unshare", "--net", lab.root / "scripts/check.sh", "alertmanager", "prometheus"]
    output = run(*command, env=lab.env, code=1)
    # The check says what to do only once.
    assert output.count("Docker's host network is not this machine's") == 2 and output.count("docker context ls") == 1


def test_interrupted_it_leaves_nothing(lab):
    log = lab.work / "output"
    with log.open("wb") as output:
        up = start(lab.root / "scripts/up.sh", "prometheus", "mailpit", env=lab.env, stdout=output, stderr=output)
    until(60, "Compose at work", lambda: "Creating" in log.read_text() or up.poll() is not None)
    # The shell first waits for Compose.
    terminate(up, 60)
    assert "are stopped again" in log.read_text()
    assert not there(lab, "ps", "-aq")


def test_a_broken_rule_file_is_shown_whether_prometheus_runs_or_not(lab):
    rules = lab.stack / "prometheus/rules/model.yml"
    lab.up("prometheus")
    edit(rules, r"\Z", "      - alert: [\n")
    output = lab.run("up", "prometheus", code=1)
    assert "does not take its configuration" in output and "rules/model.yml" in output
    docker("stop", lab.container("prometheus"))
    output = lab.run("up", "prometheus", code=1)
    assert "does not run" in output and "rules/model.yml" in output
    edit(rules, r"^      - alert: \[\n", "")
