"""The policies of docs/stores.md, and how a test gives them to users of a bucket: exactly what a person would paste."""
import json
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
ROLES = ("writer", "pruner", "verifier")
BLOCK = re.compile(r"^`([a-z]+\.json)`\n```json\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def documents(bucket: str = "acme-backups", env: str = "production") -> dict[str, Any]:
    """Each by its name, for a bucket and an environment: nothing but these two is changed. Raises ValueError for what is no JSON."""
    text = (ROOT / "docs" / "stores.md").read_text()
    return {name: json.loads(body.replace("acme-backups", bucket).replace("events/production/", f"events/{env}/"))
            for name, body in BLOCK.findall(text)}


def bucket_policy(found: dict[str, Any]) -> str:
    """The policies of the three and the one of the bucket as one, as the page says for providers without policies of users."""
    statements = [{**s, "Principal": {"AWS": [f"arn:aws:iam::000000000000:user/backup-{role}"]}, "Sid": f"{role}{s['Sid']}"}
                  for role in ROLES for s in found[f"{role}.json"]["Statement"]]
    return json.dumps({"Version": "2012-10-17", "Statement": statements + found["bucket.json"]["Statement"]})


def apply(client: Any, bucket: str, env: str) -> None:
    """Give a bucket its lifecycle and its policy."""
    found = documents(bucket, env)
    client.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration=found["lifecycle.json"])
    client.put_bucket_policy(Bucket=bucket, Policy=bucket_policy(found))
