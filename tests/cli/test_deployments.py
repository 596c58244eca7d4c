"""compose.yaml, the Kubernetes manifests, the unit and the nginx configuration fit each other, the image and the program."""

import os
import pathlib
import re
import shutil
import subprocess

import pytest
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
DOCKER = ROOT / "docker"
PROGRAM = os.environ.get("LSTMD") or os.environ.get("LSTMD_BIN") or str(ROOT / "build/lstmd")
IMAGE = (DOCKER / "Dockerfile").read_text()
NGINX = (DOCKER / "nginx.conf").read_text()


@pytest.fixture(scope="module")
def defaults():
    """{section: {key: value}} of the program."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("LSTMD")}
    return yaml.safe_load(subprocess.run([PROGRAM, "config"], env=clean, capture_output=True, text=True, check=True).stdout)


def in_image(pattern):
    return re.search(pattern, IMAGE, re.M)[1]


# --- Compose ---


@pytest.fixture(scope="module")
def compose():
    return yaml.safe_load((DOCKER / "compose.yaml").read_text())


def test_compose_declares_what_its_services_use(compose):
    services = compose["services"]
    named = [volume.split(":")[0] for service in services.values() for volume in service.get("volumes", [])]
    for kind, used in {
        "volumes": {name for name in named if not name.startswith(".")},
        "networks": {name for service in services.values() for name in service["networks"]},
        "secrets": {name for service in services.values() for name in service.get("secrets", [])},
    }.items():
        assert used == set(compose[kind]), kind
    assert {name for service in services.values() for name in service.get("depends_on", {})} <= set(services)
    # What is mounted from here is in the repository, or made by the commands at the top.
    made = re.search(r"mkdir -p (.*) &&", (DOCKER / "compose.yaml").read_text())[1].split()
    files = [secret["file"] for secret in compose["secrets"].values()] + [name for name in named if name.startswith(".")]
    for path in (pathlib.PurePath(file) for file in files):
        assert (DOCKER / path).is_file() or path.parts[0] in made, path
    assert (DOCKER / services["lstmd"]["build"]["context"] / services["lstmd"]["build"]["dockerfile"]).is_file()


def test_compose_gives_the_daemon_what_it_is_told_of(compose, defaults):
    daemon, proxy = (compose["services"][name] for name in ("lstmd", "nginx"))
    environment = daemon["environment"]
    assert environment["LSTMD_AUTH_ADMIN_TOKEN_FILE"] == f"/run/secrets/{daemon['secrets'][0]}"
    assert [volume.split(":")[1] for volume in daemon["volumes"]] == [environment["LSTMD_SERVER_STATE_DIR"]]
    (network,) = set(daemon["networks"]) & set(proxy["networks"])
    assert compose["networks"][network]["internal"], "the daemon is reached through nginx alone"
    assert environment["LSTMD_SERVER_TRUSTED_PROXIES"] == compose["networks"][network]["ipam"]["config"][0]["subnet"]
    assert daemon["read_only"] and daemon["cap_drop"] == ["ALL"] and "ports" not in daemon
    assert proxy["depends_on"]["lstmd"]["condition"] == "service_healthy" and "\nHEALTHCHECK " in IMAGE
    assert float(daemon["stop_grace_period"].rstrip("s")) > defaults["server"]["drain_seconds"]


def test_nginx_finds_the_daemon_its_certificate_and_its_ports(compose, defaults):
    daemon, proxy = (compose["services"][name] for name in ("lstmd", "nginx"))
    port = str(defaults["server"]["port"])
    assert re.search(r"\n    server (\S+)", NGINX)[1] == f"lstmd:{port}"
    assert daemon["expose"] == [port] and in_image(r"^EXPOSE (\d+)$") == port
    mounts = {volume.split(":")[0]: volume.split(":")[1] for volume in proxy["volumes"]}
    assert mounts["./nginx.conf"] == "/etc/nginx/conf.d/default.conf"
    made = re.search(r"-keyout (\S+) -out (\S+)\n", (DOCKER / "compose.yaml").read_text()).groups()
    wanted = re.findall(r"ssl_certificate(?:_key)?\s+(\S+);", NGINX)
    assert {file.replace("tls/", mounts["./tls"] + "/") for file in made} == set(wanted)
    assert {mapping.split(":")[1] for mapping in proxy["ports"]} == set(re.findall(r"listen (\d+)", NGINX))


def test_nginx_takes_no_larger_bodies_and_waits_longer_than_a_stream_is_silent(defaults):
    (most,) = re.findall(r"\n    client_max_body_size (\d+)m;", NGINX)
    assert defaults["limits"]["max_body"] == f"{most}MiB"
    (seconds,) = re.findall(r"\n    proxy_read_timeout (\d+)s;", NGINX)
    assert int(seconds) > 2 * defaults["server"]["ping_seconds"] and int(seconds) > defaults["limits"]["request_timeout"]


# --- Kubernetes ---

KINDS = {
    "Deployment": "apps/v1",
    "Service": "v1",
    "Ingress": "networking.k8s.io/v1",
    "NetworkPolicy": "networking.k8s.io/v1",
    "PersistentVolumeClaim": "v1",
    "HorizontalPodAutoscaler": "autoscaling/v2",
    "PodDisruptionBudget": "policy/v1",
}


def manifests(change=lambda text: text):
    documents = [one for file in sorted((DOCKER / "kubernetes").iterdir()) for one in yaml.safe_load_all(change(file.read_text()))]
    return {document["kind"]: document for document in documents}


def with_state(text):
    """With the lines for a daemon that trains."""
    return re.sub(r"^( +)# (?=- \{name: LSTMD_SERVER_STATE_DIR|- \{name: state|- name: state|  persistentVolumeClaim)", r"\1", text, flags=re.M)


def container_of(deployment):
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    return container


def environment_of(deployment):
    return {one["name"]: one["value"] for one in container_of(deployment)["env"]}


def test_manifests_select_the_pods_of_the_deployment_and_name_its_port():
    found = manifests()
    assert {kind: document["apiVersion"] for kind, document in found.items()} == KINDS
    specs = {kind: document["spec"] for kind, document in found.items()}
    labels = specs["Deployment"]["template"]["metadata"]["labels"]
    assert labels and specs["Deployment"]["selector"]["matchLabels"] == labels
    assert specs["Service"]["selector"] == labels
    assert specs["NetworkPolicy"]["podSelector"]["matchLabels"] == labels
    assert specs["PodDisruptionBudget"]["selector"]["matchLabels"] == labels

    ports = {port["name"]: port["containerPort"] for port in container_of(found["Deployment"])["ports"]}
    assert ports == {"http": int(in_image(r"^EXPOSE (\d+)$"))}
    (service,) = specs["Service"]["ports"]
    assert service["targetPort"] in ports
    assert [port["port"] for rule in specs["NetworkPolicy"]["ingress"] for port in rule["ports"]] == list(ports)
    for path in specs["Ingress"]["rules"][0]["http"]["paths"]:
        backend = path["backend"]["service"]
        assert (backend["name"], backend["port"]) == (found["Service"]["metadata"]["name"], {"name": service["name"]})
    annotations = specs["Deployment"]["template"]["metadata"]["annotations"]
    assert annotations["prometheus.io/port"] == str(ports["http"])

    target = specs["HorizontalPodAutoscaler"]["scaleTargetRef"]
    deployment = found["Deployment"]
    assert target == {key: deployment[key] for key in ("apiVersion", "kind")} | {"name": deployment["metadata"]["name"]}
    assert specs["HorizontalPodAutoscaler"]["minReplicas"] <= specs["Deployment"]["replicas"]
    assert specs["PodDisruptionBudget"]["minAvailable"] < specs["HorizontalPodAutoscaler"]["minReplicas"]


@pytest.mark.parametrize("change", [lambda text: text, with_state], ids=["serving", "training"])
def test_pods_have_the_volumes_that_the_daemon_is_told_of(change):
    found = manifests(change)
    deployment = found["Deployment"]
    volumes = {volume["name"]: volume for volume in deployment["spec"]["template"]["spec"]["volumes"]}
    mounts = {mount["name"]: mount["mountPath"] for mount in container_of(deployment)["volumeMounts"]}
    assert set(volumes) == set(mounts)
    environment = environment_of(deployment)
    command = re.search(r"kubectl create secret generic (\S+) --from-literal=(\w+)=", (DOCKER / "kubernetes/lstmd.yaml").read_text())
    assert volumes["token"]["secret"]["secretName"] == command[1]
    assert environment["LSTMD_AUTH_ADMIN_TOKEN_FILE"] == f"{mounts['token']}/{command[2]}"
    assert mounts.get("state") == environment.get("LSTMD_SERVER_STATE_DIR")
    assert ("state" in mounts) == (change is with_state)
    if "state" in volumes:
        claim = volumes["state"]["persistentVolumeClaim"]["claimName"]
        assert claim == found["PersistentVolumeClaim"]["metadata"]["name"]


def test_pods_are_this_version_unprivileged_probed_and_given_time_to_end(defaults):
    pod = manifests()["Deployment"]["spec"]["template"]["spec"]
    container = pod["containers"][0]
    assert container["image"] == f"lstmd:{(ROOT / 'VERSION').read_text().split()[0]}"
    user, group = in_image(r"^USER (\d+:\d+)$").split(":")
    context = pod["securityContext"]
    assert context["runAsNonRoot"] and (context["runAsUser"], context["runAsGroup"]) == (int(user), int(group))
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    contract = yaml.safe_load((ROOT / "openapi.yaml").read_text())["paths"]
    probes = {kind: container[f"{kind}Probe"]["httpGet"] for kind in ("startup", "readiness", "liveness")}
    for probe in probes.values():
        assert probe["port"] == "http" and contract[probe["path"]]["get"]["security"] == []
    assert probes["readiness"]["path"] == "/readyz" and probes["liveness"]["path"] == "/healthz"
    wait = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
    assert pod["terminationGracePeriodSeconds"] > wait + defaults["server"]["drain_seconds"]
    assert int(container["resources"]["limits"]["cpu"]) == int(environment_of(manifests()["Deployment"])["LSTMD_ENGINE_THREADS"])


# --- systemd ---


def test_unit_waits_longer_than_the_daemon_drains_and_allows_its_connections(defaults):
    unit = dict(re.findall(r"^(\w+)=(.+)$", (DOCKER / "lstmd.service").read_text(), re.M))
    assert int(unit["TimeoutStopSec"]) > defaults["server"]["drain_seconds"]
    assert int(unit["LimitNOFILE"]) > defaults["limits"]["max_connections"]
    assert unit["Environment"] == f"LSTMD_SERVER_STATE_DIR=/var/lib/{unit['StateDirectory']}"


def calls_of(names):
    """The system calls of a SystemCallFilter: names, and groups as this machine's systemd has them."""
    environment = {**os.environ, "SYSTEMD_COLORS": "0"}
    groups = {}
    for line in subprocess.run(["systemd-analyze", "syscall-filter"], capture_output=True, text=True, env=environment).stdout.splitlines():
        if line.startswith("@"):
            group = groups[line] = []
        elif line.startswith("    ") and "#" not in line:
            group.append(line.strip())
    return set().union(*(calls_of_group(groups, name) for name in names))


def calls_of_group(groups, name):
    return set().union(*(calls_of_group(groups, member) for member in groups[name])) if name in groups else {name}


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="SKIPPED: systemd-analyze is not installed (Debian's package systemd)")
def test_unit_allows_the_system_calls_that_an_import_makes():
    """Those that its sandbox leaves it, those that make the sandbox, those that start it and a training job."""
    filters = re.findall(r"^SystemCallFilter=(.+)$", (DOCKER / "lstmd.service").read_text(), re.M)
    allowed = calls_of(["@default"] + filters[0].split()) - calls_of(filters[1].removeprefix("~").split())
    sandbox = (ROOT / "base/sandbox.c").read_text()
    wanted = set(re.findall(r"SCMP_SYS\((\w+)\)", sandbox)) | set(re.findall(r"\bSYS_(\w+)", sandbox))
    assert len(wanted) > 50 and "landlock_restrict_self" in wanted
    wanted |= {"seccomp", "prctl", "clone", "clone3", "vfork", "execve", "setpgid", "sched_setscheduler", "sched_setattr", "setpriority", "prlimit64"}
    assert not wanted - allowed
