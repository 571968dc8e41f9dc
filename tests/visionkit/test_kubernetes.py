"""Files for Kubernetes: fields that the published API has, and names, ports, sizes and commands that agree."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.documented import on_several_machines
from tests.real_data import ROOT
from ui.cli import build_parser
from visionkit.arguments import check_arguments, option

DEPLOY = ROOT / "configs" / "deploy"
FILES = ("data", "job", "pytorchjob", "serve", "volume")


def documents(name: str) -> dict[str, dict[str, Any]]:
    """The objects of a file by their kind, of which each has one; the claims of `volume` by `claim`."""
    return {each["kind"]: each for each in yaml.safe_load_all((DEPLOY / f"{name}.yaml").read_text("utf-8"))}


def claim(volume: dict[str, Any]) -> dict[str, Any]:
    """The claim in volume.yaml that a volume of a pod names."""
    name, every = volume["persistentVolumeClaim"]["claimName"], (DEPLOY / "volume.yaml").read_text("utf-8")
    (found,) = [each for each in yaml.safe_load_all(every) if each["metadata"]["name"] == name]
    assert found["spec"]["accessModes"] == ["ReadWriteMany"]
    return dict(found)


# ---------------------------------------------------------------------- the published API
# Of the reference of Kubernetes 1.31 and the definition of PyTorchJob v1 (training operator 1.9) what is used here: a
# field is a type, a pattern, allowed values, a table (a name with `!` is required), or a list of one of these; {str: X}
# is a table of any names.

NAME, PORT_NAME = (
    re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"),
    re.compile(r"(?=.*[a-z])[a-z0-9]([-a-z0-9]{0,13}[a-z0-9])?"),
)
QUANTITY = re.compile(r"\d+(\.\d+)?([munkMGTPE]|[KMGTPE]i)?")
PORT = range(1, 65536)
METADATA = {"name!": NAME, "labels": {str: str}, "annotations": {str: str}}
PROBE = {
    "httpGet": {"path": str, "port!": PORT_NAME},
    **dict.fromkeys(("periodSeconds", "failureThreshold", "timeoutSeconds"), range(1, 1000)),
}
CONTAINER = {
    "name!": NAME,
    "image": str,
    "imagePullPolicy": {"Always", "Never", "IfNotPresent"},
    "command": [str],
    "args": [str],
    "env": [{"name!": str, "value": str}],
    "ports": [{"name": PORT_NAME, "containerPort!": PORT}],
    "resources": {"requests": {str: QUANTITY}, "limits": {str: QUANTITY}},
    "securityContext": {
        "readOnlyRootFilesystem": bool,
        "allowPrivilegeEscalation": bool,
        "capabilities": {"drop": [str]},
    },
    "volumeMounts": [{"name!": NAME, "mountPath!": str, "subPath": str, "readOnly": bool}],
    **dict.fromkeys(("startupProbe", "livenessProbe", "readinessProbe"), PROBE),
    "lifecycle": {"preStop": {"exec": {"command": [str]}}},
}
VOLUME = {
    "name!": NAME,
    "persistentVolumeClaim": {"claimName!": NAME},
    "emptyDir": {"medium": {"Memory"}, "sizeLimit": QUANTITY},
}
POD = {
    "subdomain": NAME,
    "restartPolicy": {"Always", "OnFailure", "Never"},
    "terminationGracePeriodSeconds": range(3600),
    "securityContext": {
        "runAsNonRoot": bool,
        "runAsUser": int,
        "fsGroup": int,
        "fsGroupChangePolicy": {"Always", "OnRootMismatch"},
        "seccompProfile": {"type!": {"RuntimeDefault", "Unconfined", "Localhost"}},
    },
    "containers!": [CONTAINER],
    "imagePullSecrets": [{"name!": NAME}],
    "nodeSelector": {str: str},
    "tolerations": [
        {
            "key": str,
            "operator": {"Exists", "Equal"},
            "value": str,
            "effect": {"NoSchedule", "PreferNoSchedule", "NoExecute"},
        }
    ],
    "volumes": [VOLUME],
}
TEMPLATE = {"metadata": {"labels": {str: str}, "annotations": {str: str}}, "spec!": POD}
SPECS: dict[str, tuple[str, Any]] = {
    "Service": (
        "v1",
        {
            "clusterIP": {"None"},
            "publishNotReadyAddresses": bool,
            "selector": {str: str},
            "sessionAffinity": {"None", "ClientIP"},
            "ports": [{"name": PORT_NAME, "port!": PORT, "targetPort": PORT_NAME}],
        },
    ),
    "Pod": ("v1", POD),
    "PersistentVolumeClaim": (
        "v1",
        {
            "accessModes": [{"ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany", "ReadWriteOncePod"}],
            "resources": {"requests": {str: QUANTITY}},
        },
    ),
    "Job": (
        "batch/v1",
        {
            "completionMode": {"Indexed", "NonIndexed"},
            **dict.fromkeys(("completions", "parallelism", "backoffLimit"), range(1000)),
            "podFailurePolicy": {
                "rules!": [
                    {
                        "action!": {"FailJob", "FailIndex", "Ignore", "Count"},
                        "onPodConditions": [{"type!": str, "status!": {"True", "False", "Unknown"}}],
                    }
                ]
            },
            "template!": TEMPLATE,
        },
    ),
    "Deployment": (
        "apps/v1",
        {
            "replicas": range(1000),
            "selector!": {"matchLabels": {str: str}},
            "strategy": {"rollingUpdate": {"maxUnavailable": range(100), "maxSurge": range(100)}},
            "template!": TEMPLATE,
        },
    ),
    "PyTorchJob": (
        "kubeflow.org/v1",
        {
            "nprocPerNode": re.compile(r"auto|cpu|gpu|\d+"),
            "elasticPolicy": {
                "rdzvBackend": {"c10d", "etcd", "etcd-v2"},
                "rdzvPort": PORT,
                **dict.fromkeys(("minReplicas", "maxReplicas", "maxRestarts"), range(1000)),
            },
            "runPolicy": {"cleanPodPolicy": {"None", "Running", "All"}, "backoffLimit": range(1000)},
            "pytorchReplicaSpecs!": {
                "Master": {},
                "Worker": {
                    "replicas": range(1000),
                    "restartPolicy": {"Always", "OnFailure", "Never", "ExitCode"},
                    "template": TEMPLATE,
                },
            },
        },
    ),
}


def faults(value: Any, schema: Any, place: str = "") -> list[str]:
    """What of a value the schema does not have, as lines that begin with the place."""
    if isinstance(schema, dict) and isinstance(value, dict):
        if str in schema:
            return [line for name, each in value.items() for line in faults(each, schema[str], f"{place}.{name}")]
        fields = {name.removesuffix("!"): each for name, each in schema.items()}
        found = [f"{place}.{name[:-1]}: missing" for name in schema if name[-1] == "!" and name[:-1] not in value]
        for name, each in value.items():
            found += faults(each, fields[name], f"{place}.{name}") if name in fields else [f"{place}.{name}: unknown"]
        return found
    if isinstance(schema, list) and isinstance(value, list):
        return [line for number, each in enumerate(value) for line in faults(each, schema[0], f"{place}[{number}]")]
    if isinstance(schema, re.Pattern):
        fits = isinstance(value, str | int) and schema.fullmatch(str(value)) is not None
    elif isinstance(schema, range | set):
        fits = type(value) in (int, str) and value in schema
    else:
        fits = isinstance(schema, type) and type(value) is schema
    return [] if fits else [f"{place}: {value!r} is not {schema}"]


@pytest.mark.parametrize("name", FILES)
def test_the_api_has_what_is_written(name: str) -> None:
    for each in yaml.safe_load_all((DEPLOY / f"{name}.yaml").read_text("utf-8")):
        version, spec = SPECS[each["kind"]]
        known = {"apiVersion!": {version}, "kind!": str, "metadata!": METADATA, "spec!": spec}
        assert faults(each, known, each["kind"]) == []


PLACES = re.compile(r"^( *)# (imagePullSecrets|tolerations|nodeSelector): ", re.M)


@pytest.mark.parametrize(("name", "count"), [("data", 1), ("job", 3), ("pytorchjob", 3), ("serve", 3)])
def test_the_places_that_are_commented_out_fit_where_they_stand(name: str, count: int) -> None:
    written, places = PLACES.subn(r"\1\2: ", (DEPLOY / f"{name}.yaml").read_text("utf-8"))
    assert places == count
    (found,) = [each for each in yaml.safe_load_all(written) if each["kind"] != "Service"]
    version, spec = SPECS[found["kind"]]
    assert faults(found["spec"], spec, found["kind"]) == []
    templates = re.findall(r'"imagePullSecrets": \[\{"name": "registry"\}\], ', json.dumps(found))
    assert len(templates) == 1 and version


def test_the_schema_refuses() -> None:
    pod = {
        "containers": [{"name": "a", "ports": [{"name": "much-too-long-name", "containerPort": 70000}], "comand": []}]
    }
    assert [line.split(": ")[0] for line in faults(pod, POD, "pod")] == [
        "pod.containers[0].ports[0].name",
        "pod.containers[0].ports[0].containerPort",
        "pod.containers[0].comand",
    ]
    assert faults({"containers": [{}]}, POD, "pod") == ["pod.containers[0].name: missing"]
    assert faults({"runAsNonRoot": 1}, POD["securityContext"], "it") == [f"it.runAsNonRoot: 1 is not {bool}"]
    assert faults("5 GB", QUANTITY) and faults(True, PORT) and not faults(4, QUANTITY)


@pytest.mark.parametrize(("name", "kind"), [("job", "Job"), ("serve", "Deployment")])
def test_kubectl_keeps_every_field(name: str, kind: str) -> None:
    """It reads an object into its own types, which drop what they do not have, and writes it again."""
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed")
    given = documents(name)[kind]
    command = ["kubectl", "set", "image", "--local", "-o", "json", "-f", "-", "visionkit=visionkit:of-this-test"]
    done = subprocess.run(command, input=json.dumps(given), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    kept = json.loads(done.stdout)
    given["spec"]["template"]["spec"]["containers"][0]["image"] = "visionkit:of-this-test"

    def lost(before: Any, after: Any, place: str) -> list[str]:
        if isinstance(before, dict) and isinstance(after, dict):
            return [line for key in before for line in lost(before[key], after.get(key), f"{place}.{key}")]
        if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
            return [line for k, each in enumerate(before) for line in lost(each, after[k], f"{place}[{k}]")]
        return [] if str(before) == str(after) else [f"{place}: {before!r} became {after!r}"]

    assert lost(given, kept, kind) == []


# ---------------------------------------------------------------------- training


def launched(command: list[str]) -> tuple[Any, list[str]]:
    """What torchrun's own parser makes of a command, and the command that it starts."""
    from torch.distributed.run import get_args_parser

    assert command[0] == "torchrun"
    args = get_args_parser().parse_args(command[1:])
    return args, [args.training_script, *(word for word in args.training_script_args if word != "--")]


def pod_of(template: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The pod of a template and its one container."""
    (container,) = template["spec"]["containers"]
    return template["spec"], container


def check_training_pod(pod: dict[str, Any], container: dict[str, Any], run: str, processes: int) -> None:
    """What both ways to train have in common."""
    environment = {each["name"]: each.get("value") for each in container["env"]}
    assert int(container["resources"]["limits"]["nvidia.com/gpu"]) == processes, "one process per GPU"
    # Workers get their time to save, and torchrun some more to see that they have ended.
    waits = int(environment["TORCH_ELASTIC_SHUTDOWN_TIMEOUT"])
    assert 120 <= waits < pod["terminationGracePeriodSeconds"] - 10
    mounts = {each["mountPath"]: each for each in container["volumeMounts"]}
    volumes = {each["name"]: each for each in pod["volumes"]}
    assert {each["name"] for each in mounts.values()} == volumes.keys()
    assert volumes[mounts["/dev/shm"]["name"]]["emptyDir"]["medium"] == "Memory"
    (shared,) = [path for path in mounts if run.startswith(f"{path}/")]
    assert not mounts[shared].get("readOnly") and "subPath" not in mounts[shared]
    assert environment["HF_HOME"].startswith(f"{shared}/"), "on the volume, not in a pod that ends"
    data = mounts["/data"]
    assert data["readOnly"]
    runs, sets = (claim(volumes[each["name"]])["metadata"]["name"] for each in (mounts[shared], data))
    filled = documents("data")["Pod"]["spec"]
    assert runs != sets == filled["volumes"][0]["persistentVolumeClaim"]["claimName"]
    (copying,) = filled["containers"]
    assert [each["mountPath"] for each in copying["volumeMounts"]] == ["/data"]
    assert filled["securityContext"] == pod["securityContext"], "what one writes the other one reads"
    users = {pod["securityContext"][key] for key in ("runAsUser", "fsGroup")}
    assert users == {int(re.search(r"--uid (\d+)", (DEPLOY / "Dockerfile").read_text("utf-8"))[1])}


def test_the_job_runs_the_documented_command() -> None:
    found = documents("job")
    job, service = found["Job"]["spec"], found["Service"]
    pod, container = pod_of(job["template"])
    # The Job's controller puts the index into the pod's variables, and the kubelet into the command.
    assert job["completionMode"] == "Indexed" and "--node-rank=$(JOB_COMPLETION_INDEX)" in container["command"]
    args, started = launched([word.replace("$(JOB_COMPLETION_INDEX)", "1") for word in container["command"]])
    page, words = launched(on_several_machines())
    changed = {key for key, value in vars(args).items() if vars(page)[key] != value}
    assert changed == {"node_rank", "master_addr", "training_script_args"}
    arguments = check_arguments("fit", started[2:])
    run = str(option(arguments, "--run"))
    assert [part for word in started for part in word.split("=", 1)] == [
        run if word == option(words, "--run") else word for word in words
    ]
    assert int(args.nnodes) == job["completions"] == job["parallelism"] == int(option(arguments, "--trainer.num_nodes"))

    name = found["Job"]["metadata"]["name"]
    assert pod["subdomain"] == service["metadata"]["name"] and args.master_addr == f"{name}-0.{pod['subdomain']}"
    assert service["spec"]["clusterIP"] == "None" and service["spec"]["publishNotReadyAddresses"]
    assert service["spec"]["selector"] == {"batch.kubernetes.io/job-name": name}
    ports = {each["port"] for each in service["spec"]["ports"]}
    assert ports == {each["containerPort"] for each in container["ports"]} == {args.master_port}
    assert pod["restartPolicy"] == "Never", "which podFailurePolicy needs"
    check_training_pod(pod, container, run, int(args.nproc_per_node))


def test_the_elastic_job_trains_on_as_many_nodes_as_there_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = documents("pytorchjob")["PyTorchJob"]
    name, spec = job["metadata"]["name"], job["spec"]
    policy, worker = spec["elasticPolicy"], spec["pytorchReplicaSpecs"]["Worker"]
    pod, container = pod_of(worker["template"])
    assert container["name"] == "pytorch" and spec["pytorchReplicaSpecs"].keys() == {"Worker"}
    assert policy["minReplicas"] <= worker["replicas"] <= policy["maxReplicas"]
    # As the operator does.
    monkeypatch.setenv("PET_NNODES", f"{policy['minReplicas']}:{policy['maxReplicas']}")
    monkeypatch.setenv("PET_RDZV_ENDPOINT", f"{name}-worker-0:{policy['rdzvPort']}")
    monkeypatch.setenv("PET_RDZV_BACKEND", policy["rdzvBackend"])
    monkeypatch.setenv("PET_MAX_RESTARTS", str(policy["maxRestarts"]))
    args, started = launched(container["command"])
    assert (args.nnodes, args.rdzv_endpoint, args.rdzv_backend) == ("1:4", "visionkit-elastic-worker-0:23456", "c10d")
    assert args.max_restarts == 100 and args.nproc_per_node == spec["nprocPerNode"] and args.no_python
    assert [(each["name"], each["containerPort"]) for each in container["ports"]] == [
        ("pytorchjob-port", policy["rdzvPort"])
    ], "the operator's Service opens this port"

    (tmp_path / "visionkit").write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    (tmp_path / "visionkit").chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "GROUP_WORLD_SIZE": "3"}
    words = subprocess.run(started, env=environment, capture_output=True, text=True, check=True).stdout.splitlines()
    arguments = check_arguments("fit", words[1:])
    assert words[0] == "fit" and option(arguments, "--trainer.num_nodes") == "3"
    documented = on_several_machines()
    ours = {"--trainer.num_nodes": "3", "--run": option(arguments, "--run")}
    of_page = documented[documented.index("visionkit") + 1 :]
    expected = [ours.get(before, word) for before, word in zip(["", *of_page], of_page, strict=False)]
    assert words == expected and shlex.join(started).count("exec visionkit") == 1, "signals reach visionkit itself"
    check_training_pod(pod, container, str(option(arguments, "--run")), int(args.nproc_per_node))


# ---------------------------------------------------------------------- serving


def test_the_demo_is_served_and_asked_by_its_own_routes() -> None:
    found = documents("serve")
    service, spec = found["Service"]["spec"], found["Deployment"]["spec"]
    pod, container = pod_of(spec["template"])
    assert service["selector"] == spec["selector"]["matchLabels"]
    assert service["selector"].items() <= spec["template"]["metadata"]["labels"].items()
    entry = re.search(r"^ENTRYPOINT \[(.*)\]$", (DEPLOY / "Dockerfile").read_text("utf-8"), re.M)[1]
    words = [*json.loads(f"[{entry}]")[2:], *container["args"]]
    args = build_parser("serve").parse(words)
    assert "command" not in container, "the image's own"
    assert found["Service"]["metadata"]["name"] in args.allow_host and args.host == "0.0.0.0"
    (port,), (opened,) = container["ports"], service["ports"]
    assert port["containerPort"] == opened["port"] == args.port and opened["targetPort"] == port["name"]
    annotations = spec["template"]["metadata"]["annotations"]
    assert annotations["prometheus.io/port"] == str(args.port)

    mounts = {each["mountPath"]: each for each in container["volumeMounts"]}
    volumes = {each["name"]: each for each in pod["volumes"]}
    assert {each["name"] for each in mounts.values()} == volumes.keys() and mounts[args.models]["readOnly"]
    assert claim(volumes[mounts[args.models]["name"]])["metadata"]["name"] == "visionkit"
    (home,) = [each["value"] for each in container["env"] if each["name"] == "HF_HOME"]
    (cache,) = [each for path, each in mounts.items() if home.startswith(f"{path}/")]
    assert "emptyDir" in volumes[cache["name"]], "what faces the network writes nothing that a training reads"
    size = re.fullmatch(r"(\d+)Gi", volumes[mounts["/tmp"]["name"]]["emptyDir"]["sizeLimit"])[1]
    assert container["securityContext"]["readOnlyRootFilesystem"] and args.disk_mb < 1024 * int(size)
    assert pod["terminationGracePeriodSeconds"] > int(container["lifecycle"]["preStop"]["exec"]["command"][1]) + 2


def test_probes_ask_for_what_the_server_has(tmp_path: Path) -> None:
    """The kubelet asks by the pod's address, without a login."""
    from fastapi import FastAPI
    from fastapi.testclient import TestClient

    from ui.model_registry import ModelRegistry
    from ui.server.job_queue import JobQueue
    from ui.server.login import OPEN
    from ui.server.routes import add_routes
    from ui.server.security_middleware import Guard

    loaded: list[bool] = []
    app = FastAPI()
    add_routes(app, JobQueue(ModelRegistry()), tmp_path, lambda: bool(loaded))
    (container,) = documents("serve")["Deployment"]["spec"]["template"]["spec"]["containers"]
    (port,) = container["ports"]
    paths = {}
    for name in ("startupProbe", "livenessProbe", "readinessProbe"):
        paths[name] = container[name]["httpGet"]["path"]
        assert container[name]["httpGet"]["port"] == port["name"] and paths[name] in OPEN
    client = TestClient(Guard(app, "0.0.0.0"), base_url="http://10.1.2.3:7860")
    assert [client.get(path).status_code for path in paths.values()] == [200, 200, 503]
    loaded.append(True)
    assert [client.get(path).status_code for path in paths.values()] == [200, 200, 200]
    metrics = documents("serve")["Deployment"]["spec"]["template"]["metadata"]["annotations"]["prometheus.io/path"]
    assert client.get(metrics).text.startswith("#")
