"""The page of a picture and a caption that a person has just given, from a server on this machine (docs/explore.md)."""

from attention_collapse.live.gradio_app import demo, serve
from attention_collapse.live.looker import Looker

__all__ = ["Looker", "demo", "serve"]
