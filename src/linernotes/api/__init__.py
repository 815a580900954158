"""The Python API: every verb of the command line as a function. ``import linernotes`` offers these names."""

from linernotes.api.attributing import DEMO_PROMPT, Demo, attribute, generate, run_demo
from linernotes.api.building import build_catalogue, load_model, open_catalogue, rebuild, render_builtin, train_model
from linernotes.api.comparing import (
    Comparison,
    bench,
    compare,
    list_methods,
    model_fidelity,
    plan,
    self_influence,
    sweep,
)

__all__ = [
    "DEMO_PROMPT",
    "Comparison",
    "Demo",
    "attribute",
    "bench",
    "build_catalogue",
    "compare",
    "generate",
    "list_methods",
    "load_model",
    "model_fidelity",
    "open_catalogue",
    "plan",
    "rebuild",
    "render_builtin",
    "run_demo",
    "self_influence",
    "sweep",
    "train_model",
]
