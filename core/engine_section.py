"""The section [engine] of a project file: where the work is done, which changes no byte."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from .options import Flag, Model


class EngineSection(Model):
    """Where images are generated and measured; no byte of the result depends on it."""

    name: Literal["local", "ray"] = Field(
        default="local",
        description="What does the work: local (this machine) or ray (Ray, on this machine or on a "
        "cluster).",
    )
    workers: int | None = Field(
        default=None,
        ge=1,
        description="How many workers share the work; unless given, what suits the machine and the "
        "number of images.",
    )
    address: str | None = Field(
        default=None,
        min_length=1,
        description="Of a Ray cluster: HOST:PORT, or auto for the one this machine belongs to; "
        "unless given, that of RAY_ADDRESS, or Ray on this machine alone.",
    )
    cpus: int = Field(
        default=1, ge=1, description="Processors that each worker takes of a Ray cluster."
    )
    gpus: float = Field(
        default=0,
        ge=0,
        allow_inf_nan=False,
        description="Graphics cards that each worker takes of a Ray cluster; 0.5 shares one.",
    )
    parts: Flag | None = Field(
        default=None,
        description="Let the workers of Ray write their measurements beside the feature store, as "
        "Parquet parts that are merged into it: for many workers, who share a folder.",
    )

    @model_validator(mode="after")
    def _fits(self) -> EngineSection:
        if self.name == "ray":
            return self
        for key in ("address", "cpus", "gpus", "parts"):
            if getattr(self, key) not in (type(self).model_fields[key].default, False):
                raise ValueError(f"'{key}' is for Ray: say name = \"ray\" as well, or take it out")
        return self
