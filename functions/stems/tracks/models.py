"""/v1/models: what can be known of models without torch: the setting, and what records say."""

from flask import Response, jsonify

from stems.index import Index
from stems.tracks import schemas
from stems.tracks.api import Answer, Routes


def routes(index: Index, default: str) -> Routes:
    """Return the route; `default`: the model for songs that name none."""
    models = Routes("models", "Models")

    @models.add(
        "/v1/models",
        good={200: Answer(schemas.Models)},
        bad=(503,),
        more={"summary": "List models", "description": "The default, and those that have made a track."},
    )
    def known() -> Response:
        found = {default: {"sources": [], "note": ""}, **index.models()}
        return jsonify(default=default, models=[{"name": name, **found[name]} for name in sorted(found)])

    return models
