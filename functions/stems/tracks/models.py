"""/v1/models: what can be known of models without torch: what workers and records say, and the setting."""

from flask import Response, jsonify

from stems.index import Index
from stems.options import QUALITIES
from stems.tracks import schemas
from stems.tracks.api import Answer, Routes


def routes(index: Index, default: str) -> Routes:
    """Return the route; `default`: the model for songs that name none, until a worker has said which."""
    models = Routes("models", "Models")

    @models.add(
        "/v1/models",
        good={200: Answer(schemas.Models)},
        bad=(503,),
        more={
            "summary": "List models and formats",
            "description": "Of the models the default, and those that have made a track; of each format the qualities, "
            "as in `mp3-v0`, the usual one first.",
        },
    )
    def known() -> Response:
        known_default = index.default_model() or default
        found = {known_default: {"sources": [], "note": ""}, **index.models()}
        models = [{"name": name, **found[name]} for name in sorted(found)]
        return jsonify(default=known_default, models=models, formats=QUALITIES)

    return models
