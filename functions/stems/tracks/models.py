"""/v1/models: what can be known of models without torch: what workers and records say, and the setting."""

from flask import Response, jsonify

from stems.index import Index
from stems.tracks import schemas
from stems.tracks.api import Answer, Routes


def routes(index: Index, default: str) -> Routes:
    """Return the route; `default`: the model for songs that name none, until a worker has said which."""
    models = Routes("models", "Models")

    @models.add(
        "/v1/models",
        good={200: Answer(schemas.Models)},
        bad=(503,),
        more={"summary": "List models", "description": "The default, and those that have made a track."},
    )
    def known() -> Response:
        known_default = index.default_model() or default
        found = {known_default: {"sources": [], "note": ""}, **index.models()}
        return jsonify(default=known_default, models=[{"name": name, **found[name]} for name in sorted(found)])

    return models
