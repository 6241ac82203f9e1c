"""Which models a sender may ask for. Others do not exist for it."""

from server.auth.principal import Principal
from server.errors import ModelNotFound
from server.wire.jsonbody import Json
from server.wire.openai import SERVED_MODEL_ALIASES

# What a restricted key lists to send requests that name no model, as TGI's routes do.
WHATEVER_IS_SERVED = "tgi"


def check_model(principal: Principal, model: object) -> None:
    """Raises ModelNotFound, whether there is such a model or not."""
    if principal.models is None:
        return
    named = isinstance(model, str) and model not in SERVED_MODEL_ALIASES
    if (model if named else WHATEVER_IS_SERVED) not in principal.models:
        raise ModelNotFound


def visible_models(principal: Principal, listing: Json) -> Json:
    """A list of models without those that the sender may not ask for."""
    if principal.models is None:
        return listing
    listed = listing.get("data")
    kept = [item for item in listed if _name(item) in principal.models] if isinstance(listed, list) else []
    # Rebuilt: other fields of an engine's listing may name what was taken out.
    return {"object": "list", "data": kept}


def _name(item: object) -> object:
    return item.get("id") if isinstance(item, dict) else None
