"""Makes label_studio_*.json with a running server.

  label-studio start --no-browser --port 8080 --username a@example.com \
    --password secretsecret --user-token $TOKEN
  python make_label_studio.py http://127.0.0.1:8080 $TOKEN WRITTEN

with LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN=true for the server; WRITTEN has the
folders `single` and `several` with what `label_studio.write` writes of
`queries.query(is_multi_label=...)`.
"""

import pathlib
import sys

import requests

CHOICES = {
  "single": [["cat"], ['dog & "wolf"'], ["zebra"], None, "cancelled"],
  "several": [["cat"], ['dog & "wolf"', "zebra"], [], None, "cancelled"],
}


def main(url, token, written):
  session = requests.Session()
  session.headers["Authorization"] = f"Token {token}"
  for name, choices in CHOICES.items():
    folder = pathlib.Path(written) / name
    config = (folder / "label_studio_config.xml").read_text()
    project = session.post(
      f"{url}/api/projects", json={"title": name, "label_config": config}
    ).json()["id"]
    with (folder / "label_studio_tasks.json").open("rb") as file:
      session.post(
        f"{url}/api/projects/{project}/import", files={"file": file}
      ).raise_for_status()
    found = session.get(f"{url}/api/tasks?project={project}&page_size=100")
    tasks = sorted(task["id"] for task in found.json()["tasks"])
    annotate(session, url, tasks[0], ["zebra"])  # changed afterwards
    for task, chosen in zip(tasks, choices, strict=True):
      if chosen is not None:
        annotate(session, url, task, chosen)
    for kind, ending in (("JSON", ""), ("JSON_MIN", "_min")):
      export = session.get(
        f"{url}/api/projects/{project}/export"
        f"?exportType={kind}&download_all_tasks=true"
      )
      out = pathlib.Path(__file__).parent / f"label_studio_{name}{ending}.json"
      out.write_bytes(export.content)


def annotate(session, url, task, chosen):
  is_cancelled = chosen == "cancelled"
  result = {
    "from_name": "label",
    "to_name": "image",
    "type": "choices",
    "value": {"choices": chosen},
  }
  session.post(
    f"{url}/api/tasks/{task}/annotations/",
    json={
      "result": [result] if chosen and not is_cancelled else [],
      "was_cancelled": is_cancelled,
    },
  ).raise_for_status()


if __name__ == "__main__":
  main(*sys.argv[1:])
