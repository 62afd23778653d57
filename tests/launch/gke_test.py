import copy
import functools
import json
import re

import pytest

from tests.launch import scripts
from tests.table import each

WHAT = {
  "NAME": "cub",
  "IMAGE": "region-docker.pkg.dev/p/r/decern_jax:1",
  "TPU_ACCELERATOR": "tpu-v5-lite-podslice",
  "TPU_TOPOLOGY": "4x4",
  "HOSTS": "4",
  "CHIPS_PER_HOST": "4",
  "WORKDIR": "gs://b/runs/cub",
  "DATA": "gs://b/tfds",
  "SERVICE_ACCOUNT": "trainer",
}
KUBECTL = """#!/bin/sh
echo "$*" >"$FAKE/kubectl"
cat >"$FAKE/manifest"
exit "${KUBECTL_STATUS:-0}"
"""
# What the definition of the resource in kubernetes-sigs/jobset restricts beyond
# the types, which the published models leave out.
ACTIONS = {"FailJobSet", "RestartJobSet", "RestartJobSetAndIgnoreMaxRestarts"}
RULE_NAME = r"[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?"


def prepare(folder):
  """Returns an environment with a kubectl that keeps what it is given."""
  scripts.install(folder / "bin", "kubectl", KUBECTL)
  variables = scripts.clean_environment(folder / "bin") | WHAT
  return variables | {"FAKE": str(folder)}


@pytest.fixture
def launch(tmp_path):
  """Starts the script."""
  environment = prepare(tmp_path)

  def run(*arguments, **more):
    return scripts.run("gke.sh", arguments, environment | more)

  return run


@pytest.fixture(scope="module")
def print_manifest(tmp_path_factory):
  """Returns what the script would create, as text; each case is run once."""
  environment = prepare(tmp_path_factory.mktemp("gke"))

  @functools.cache
  def run(arguments, more):
    changed = environment | dict(more) | {"DRY_RUN": "1"}
    done = scripts.run("gke.sh", arguments, changed)
    assert done.returncode == 0, done.stderr
    return done.stdout

  return run


@pytest.fixture
def manifest(print_manifest):
  """Returns what the script would create, as data."""
  yaml = pytest.importorskip("yaml")

  def read(*arguments, **more):
    return yaml.safe_load(print_manifest(arguments, tuple(more.items())))

  return read


def close(schema):
  """Returns a schema that allows no field which it does not name.

  The models wrap what is a number or text, such as 4 and "4Gi".
  """
  if isinstance(schema, list):
    return [close(part) for part in schema]
  if not isinstance(schema, dict):
    return schema
  properties = schema.get("properties")
  if isinstance(properties, dict) and "actual_instance" in properties:
    return properties["actual_instance"]
  closed = {key: close(part) for key, part in schema.items()}
  if isinstance(properties, dict):
    closed["additionalProperties"] = False
  return closed


@pytest.fixture(scope="module")
def validator():
  """The API of JobSet and of Kubernetes, as Kubeflow publishes it on PyPI."""
  jsonschema = pytest.importorskip("jsonschema")
  pytest.importorskip("kubeflow_trainer_api")
  from kubeflow_trainer_api.models import jobset_v1alpha2_job_set as models

  schema = models.JobsetV1alpha2JobSet.model_json_schema(by_alias=True)
  return jsonschema.Draft202012Validator(close(schema))


def job_of(manifest):
  (replicated,) = manifest["spec"]["replicatedJobs"]
  return replicated["template"]["spec"]


def pod_of(manifest):
  return job_of(manifest)["template"]["spec"]


def container_of(manifest):
  return pod_of(manifest)["containers"][0]


def environment_of(manifest) -> dict[str, str]:
  return {pair["name"]: pair["value"] for pair in container_of(manifest)["env"]}


# Each is a mistake that people make.
MISTAKES = {
  "misspelled_policy": lambda m: m["spec"].update(
    failurePolicies=m["spec"].pop("failurePolicy")
  ),
  "misspelled_rule": lambda m: m["spec"]["failurePolicy"]["rules"][0].update(
    onJobFailureReason=["PodFailurePolicy"]
  ),
  "unnamed_rule": lambda m: m["spec"]["failurePolicy"]["rules"][0].pop("name"),
  "restarts_as_text": lambda m: m["spec"]["failurePolicy"].update(
    maxRestarts="2"
  ),
  "policy_in_the_pod": lambda m: pod_of(m).update(
    podFailurePolicy=job_of(m).pop("podFailurePolicy")
  ),
  "hosts_as_text": lambda m: job_of(m).update(parallelism="4"),
  "environment_as_map": lambda m: container_of(m).update(env={"DATA": "d"}),
  "number_in_environment": lambda m: container_of(m)["env"][0].update(value=1),
  "misspelled_selector": lambda m: pod_of(m).update(nodeSelectors={}),
  "resources_without_limits": lambda m: container_of(m).update(
    resources={"google.com/tpu": 4}
  ),
}


class TestSchema:
  @each("spot", ["0", "1"])
  def test_manifest_is_valid(self, manifest, validator, spot):
    errors = [e.message for e in validator.iter_errors(manifest(SPOT=spot))]
    assert errors == []

  @each("name", MISTAKES)
  def test_rejects_mistakes(self, manifest, validator, name):
    broken = copy.deepcopy(manifest())
    MISTAKES[name](broken)
    assert not validator.is_valid(broken)

  def test_actions_and_names_are_as_the_controller_wants(self, manifest):
    for rule in manifest()["spec"]["failurePolicy"]["rules"]:
      assert rule["action"] in ACTIONS
      assert re.fullmatch(RULE_NAME, rule["name"])


class TestManifest:
  def test_holds_what_was_asked(self, manifest):
    found = manifest("--config.seeds=(1, 11)", '--x="y"')
    container = container_of(found)
    assert found["metadata"]["name"] == "cub"
    assert container["image"] == WHAT["IMAGE"]
    assert container["args"] == ["--config.seeds=(1, 11)", '--x="y"']
    assert container["resources"]["limits"] == {"google.com/tpu": 4}
    assert pod_of(found)["serviceAccountName"] == "trainer"
    environment = environment_of(found)
    assert environment["WORKDIR"] == "gs://b/runs/cub"
    assert environment["DATA"] == "gs://b/tfds"
    assert environment["CONFIG"] == "configs/cub.py"

  def test_has_a_pod_per_host(self, manifest):
    for hosts in (1, 4):
      job = job_of(manifest(HOSTS=str(hosts)))
      assert (job["completions"], job["parallelism"]) == (hosts, hosts)

  @each("hosts, value", [("1", "0"), ("4", "1")])
  def test_several_hosts_are_distributed(self, manifest, hosts, value):
    assert environment_of(manifest(HOSTS=hosts))["DISTRIBUTED"] == value

  @each("spot", ["0", "1"])
  def test_asks_for_spot_nodes(self, manifest, spot):
    selector = pod_of(manifest(SPOT=spot))["nodeSelector"]
    assert ("cloud.google.com/gke-spot" in selector) == (spot == "1")
    assert selector["cloud.google.com/gke-tpu-topology"] == "4x4"

  def test_stopped_and_saved_restarts_without_counting(self, manifest):
    found = manifest()
    job = job_of(found)
    exits = job["podFailurePolicy"]["rules"][0]
    assert exits["onExitCodes"]["values"] == [75]
    assert exits["onExitCodes"]["containerName"] == container_of(found)["name"]
    (rule,) = found["spec"]["failurePolicy"]["rules"]
    assert rule["action"] == "RestartJobSetAndIgnoreMaxRestarts"
    assert rule["onJobFailureReasons"] == ["PodFailurePolicy"]

  def test_other_failures_end_after_a_few_restarts(self, manifest):
    found = manifest()
    assert found["spec"]["failurePolicy"]["maxRestarts"] == 2
    assert job_of(found)["backoffLimit"] == 0
    assert pod_of(found)["restartPolicy"] == "Never"


class TestLaunch:
  def test_creates_the_manifest_and_says_what_costs(self, launch, tmp_path):
    done = launch()
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "kubectl").read_text() == "create -f -\n"
    assert 'name: "cub"' in (tmp_path / "manifest").read_text()
    assert "kubectl delete jobset cub" in done.stderr

  def test_fails_with_kubectl(self, launch):
    assert launch(KUBECTL_STATUS="3").returncode == 3

  def test_names_all_missing_variables(self, launch, tmp_path):
    done = launch(IMAGE="", HOSTS="", SERVICE_ACCOUNT="")
    assert done.returncode == 64
    assert "to be set: IMAGE HOSTS SERVICE_ACCOUNT." in done.stderr
    assert not (tmp_path / "kubectl").exists()

  def test_rejects_a_workdir_that_is_lost_with_the_pod(self, launch):
    done = launch(WORKDIR="/scratch/run")
    assert done.returncode == 64
    assert "got /scratch/run" in done.stderr


def test_arguments_are_json(print_manifest):
  lines = print_manifest(("a", "b c"), ()).splitlines()
  (line,) = [x for x in lines if "args:" in x]
  assert json.loads(line.split("args:")[1]) == ["a", "b c"]
