"""Who makes the pieces of a step: this process, or the actors of a Ray cluster."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from attention_collapse.engine.pieces import Runner, here
from attention_collapse.extras import require
from attention_collapse.models.interface import Model
from attention_collapse.params import Engine


def running(settings: Engine, load: Callable[[], Model], threads: int) -> AbstractContextManager[Runner]:
    """The runner that `settings` asks for; `load` and `threads` as of `ray_actors.on_ray`.

    Raises
    ------
    PipelineError
        Ray is asked for and not installed.
    """
    if settings.kind == "local":
        return nullcontext(here)
    require("ray")
    from attention_collapse.engine.ray_actors import on_ray

    return on_ray(settings, load, threads)
