"""How each benchmark's JSON becomes tables: one file per benchmark, one line per table in `TABLES`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks.tables.activations import activations_table, equal_depth_table
from benchmarks.tables.backends import backends_table
from benchmarks.tables.ckks import chains_table, ckks_table
from benchmarks.tables.concrete import concrete_table
from benchmarks.tables.costs import costs_table
from benchmarks.tables.coverage import coverage_table
from benchmarks.tables.digits import digits_table
from benchmarks.tables.he_diffusion import he_diffusion_table
from benchmarks.tables.linear import linear_table
from benchmarks.tables.load import load_table
from benchmarks.tables.min_distortion import min_distortion_table, predicted_table
from benchmarks.tables.peers import peers_table
from benchmarks.tables.plans import bills_table, goals_table, shapes_table
from benchmarks.tables.scale import projection_table, scale_table
from benchmarks.tables.sd_unet import link_table, sd_unet_table
from benchmarks.tables.shapes import captions_table
from benchmarks.tables.transport import faults_table, transport_table

__all__ = ["TABLES"]

# name in the documents: file of the results, its table
TABLES: dict[str, tuple[str, Callable[[dict[str, Any]], str]]] = {
    "backends": ("digits_ckks", backends_table),
    "chains": ("digits_ckks", chains_table),
    "ckks": ("ckks", ckks_table),
    "concrete": ("concrete", concrete_table),
    "costs": ("costs", costs_table),
    "digits": ("digits", digits_table),
    "captions": ("shapes", captions_table),
    "min_distortion": ("min_distortion", min_distortion_table),
    "tiles": ("min_distortion", predicted_table),
    "he_diffusion": ("he_diffusion", he_diffusion_table),
    "activations": ("activations", activations_table),
    "depth": ("activations", equal_depth_table),
    "transport": ("transport", transport_table),
    "faults": ("faults", faults_table),
    "load": ("load", load_table),
    "linear": ("linear", linear_table),
    "peers": ("peers", peers_table),
    "sd_unet": ("sd_unet", sd_unet_table),
    "sd_link": ("sd_unet", link_table),
    "sd_optimised": ("sd_unet_optimised", sd_unet_table),
    "scale": ("scale", scale_table),
    "projection": ("projection", projection_table),
    "plans": ("plans", shapes_table),
    "goals": ("plans", goals_table),
    "bills": ("plans", bills_table),
    "coverage": ("coverage", coverage_table),
}
