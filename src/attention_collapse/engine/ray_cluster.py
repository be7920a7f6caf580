"""The cluster of Ray that a run is on: one that is there, or one of our own, and how many actors it has room for."""

from __future__ import annotations

import logging
import os
import sys
from typing import Any

import ray

from attention_collapse.errors import ParamsError
from attention_collapse.params import Engine
from attention_collapse.progress import note

STORE = 2**28  # bytes of the object store of a Ray of our own: what a step's pieces are made of goes through it, once


def connect(settings: Engine, threads: int) -> None:
    """To the cluster of the address; auto is the one that runs here or that RAY_ADDRESS names, else one of our own.

    Raises
    ------
    ParamsError
        No cluster runs at the address that was given.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    quiet: dict[str, Any] = {
        "logging_level": logging.ERROR, "log_to_driver": False, "ignore_reinit_error": True,
        "runtime_env": {"env_vars": {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}},
    }  # fmt: skip
    if settings.address != "local":
        try:
            ray.init(address=settings.address, **quiet)
            note(f"Ray: the cluster at {ray.get_runtime_context().gcs_address}")
        except ConnectionError as error:
            if settings.address != "auto" or "RAY_ADDRESS" in os.environ:
                raise ParamsError(
                    f"engine.address {settings.address!r}: {error}",
                    expected="the address of a Ray cluster that runs (host:port), auto, or local",
                    remedy="start one (`ray start --head`), correct the address, or set RAY_AUTH_MODE=token if it "
                    "wants a token",
                ) from None
    if not ray.is_initialized():
        note("Ray: one of our own on this machine")
        wanted = max(os.cpu_count() or 1, settings.actors * threads)
        ray.init(address="local", num_cpus=wanted, object_store_memory=STORE, include_dashboard=False, **quiet)


def places_of(settings: Engine, threads: int) -> int:
    """How many actors the nodes have room for, if nothing else runs: each is on one node."""
    found = 0
    for node in ray.nodes():
        has = node["Resources"] if node["Alive"] else {}
        room = [has.get("CPU", 0) // threads]
        if settings.gpus:  # a part of a GPU is on one of them
            each = int(1 / settings.gpus + 1e-9)
            room.append(int(has.get("GPU", 0)) * each if each else has.get("GPU", 0) // settings.gpus)
        found += int(min(room))
    return found


def taken_by(settings: Engine, threads: int) -> str:
    """What one actor takes, in words."""
    return f"{threads} CPU" + (f" and {settings.gpus:g} GPU" if settings.gpus else "")


def with_room(settings: Engine, threads: int) -> Engine:
    """The settings with as many actors as the nodes have room for, which is said where that is fewer than asked for.

    A node may be lost between two steps of a long run: fewer actors give the same numbers, later.

    Raises
    ------
    ParamsError
        No node has room for one.
    """
    if (places := places_of(settings, threads)) >= settings.actors:
        return settings
    have = ray.cluster_resources()
    said = (
        f"{settings.actors} actors of {taken_by(settings, threads)} each, and Ray's nodes have room for {places} "
        f"({have.get('CPU', 0):g} CPU and {have.get('GPU', 0):g} GPU in all)"
    )
    if not places:
        raise ParamsError(
            said,
            expected="a node with room for an actor",
            remedy="ask for fewer threads, or less of a GPU for each (engine.gpus), or add a node",
        )
    note(f"{said}: {places} are started")
    return settings.model_copy(update={"actors": places})
