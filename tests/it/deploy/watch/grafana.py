"""Says on standard output what in a dashboard Grafana would pass over: what is lost on the way through Grafana's own models.

The models keep what they know, so what is misspelt, or stands where it does not belong, is not there any more when it is written
again.
"""

import json
import sys

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

# Of annotations by Prometheus, which the models do not tell from others.
KNOWN = {"titleFormat", "textFormat"}


def lost(given, kept, path):
    """The paths in `given` that have another value in `kept`, or none."""
    if isinstance(given, dict) and isinstance(kept, dict):
        for name, value in given.items():
            if name in kept:
                yield from lost(value, kept[name], f"{path}/{name}")
            elif not (path.startswith("/annotations/") and name in KNOWN):
                yield f"{path}/{name}"
    elif isinstance(given, list) and isinstance(kept, list) and len(given) == len(kept):
        for number, pair in enumerate(zip(given, kept)):
            yield from lost(*pair, f"{path}/{number}")
    elif given != kept:
        yield path


register_default_plugins()
dashboard = json.load(sys.stdin)
written = json.loads(JSONEncoder().encode(Dashboard.from_json(dashboard)))
for path in lost(dashboard, written, ""):
    print(path)
